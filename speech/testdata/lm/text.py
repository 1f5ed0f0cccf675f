"""Writes text.txt: sentences of a small language whose words are as unevenly frequent as words are, so
that n-grams of every length are seen once, twice, three and four times.

    python3 text.py > text.txt
"""

import random

draw = random.Random(5)
nouns = [first + middle + last for first in ("ba", "ko", "mi", "tu", "re") for middle in ("la", "no", "sti", "gu") for last in ("n", "r", "ma", "tis", "lo")]
draw.shuffle(nouns)
verbs = "saw took gave called followed left found wanted".split()
adjectives = "old small red quiet new".split()
ends = ["", "today", "again", "at last", "in the morning"]


def pick(words):
    # Zipf's law: the n-th word as often as 1/n.
    return draw.choices(words, [1 / (place + 1) for place in range(len(words))])[0]


def noun_phrase():
    article = pick(["the", "a", "every"])
    middle = pick(adjectives) + " " if draw.random() < 0.35 else ""
    return f"{article} {middle}{pick(nouns)}"


for _ in range(350):
    sentence = f"{noun_phrase()} {pick(verbs)} {noun_phrase()} {pick(ends)}".strip()
    if draw.random() < 0.1:
        sentence = pick(["yes", "no", "stop", "go on"])
    print(sentence)

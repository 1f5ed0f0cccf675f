"""Makes edits.jsonl: word and character errors as jiwer counts them.

pip install jiwer==4.0.0 && python edits.py > edits.jsonl
"""

import json
import random

import jiwer

draw = random.Random(20)
LETTERS = "abc"
WORDS = "YES NO GO STOP ONE TWO THREE A B C ÉTÉ".split()


def text(kind):
    if kind == "letters":  # few symbols make many ties
        return " ".join(draw.choice(LETTERS) for _ in range(draw.randrange(0, 12)))
    if kind == "solid":
        return "".join(draw.choice(LETTERS) for _ in range(draw.randrange(0, 16)))
    spaces = [" ", " ", " ", "  ", "   "]
    words = [draw.choice(WORDS) + draw.choice(spaces) for _ in range(draw.randrange(0, 10))]
    return draw.choice(["", " "]) + "".join(words)


def corrupted(words):
    kept = []
    for word in words.split():
        chance = draw.random()
        if chance < 0.12:
            continue
        kept.append(draw.choice(WORDS) if chance < 0.3 else word)
        if chance > 0.9:
            kept.append(draw.choice(WORDS))
    return " ".join(kept)


pairs = [("", ""), ("a b", ""), ("", "a b"), ("a", "b"), ("x  y", "x y"), (" ", "a")]
for kind in ["letters", "solid", "words"]:
    pairs += [(text(kind), text(kind)) for _ in range(80)]
for _ in range(80):
    reference = text("words")
    pairs.append((reference, corrupted(reference)))
for _ in range(6):  # longer than a machine word, where RapidFuzz takes another path
    reference = " ".join(draw.choice(LETTERS) for _ in range(draw.randrange(100, 140)))
    pairs.append((reference, corrupted(reference)))
    pairs.append((reference, " ".join(draw.choice(LETTERS) for _ in range(draw.randrange(80, 140)))))
for reference, hypothesis in pairs:
    words = jiwer.process_words(reference, hypothesis)
    characters = jiwer.process_characters(reference, hypothesis)
    counts = lambda o: [o.substitutions, o.deletions, o.insertions]
    line = {
        "reference": reference,
        "hypothesis": hypothesis,
        "words": counts(words),
        "characters": counts(characters),
    }
    print(json.dumps(line, ensure_ascii=False))

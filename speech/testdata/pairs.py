"""Makes pairs.json: word and character errors of 10,000 random pairs as jiwer counts them.

pip install jiwer==4.0.0 && python pairs.py > pairs.json

Pairs are drawn from the project's own streams of random numbers, so that they need not be written down:
only the sums of every hundred pairs, and a digest of the counts of each.
"""

import json

import jiwer

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
PAIRS, BLOCK = 10_000, 100
WORDS = "a b c yes no go stop one two three four fünf ÉTÉ".split()


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def rotl(x, n):
    return ((x << n) | (x >> (64 - n))) & MASK


class Stream:
    def __init__(self, seed, tags):
        self.key = mix((seed + GOLDEN) & MASK)
        for tag in tags:
            self.key = mix(rotl(self.key, 23) ^ (mix((tag + GOLDEN) & MASK) * GOLDEN) & MASK)
        self.counter = 0

    def below(self, n):
        self.counter += 1
        value = mix(self.key ^ mix((self.counter * GOLDEN) & MASK))
        return (value * n) >> 64


def pair(number):
    """A reference of up to 15 words, and a hypothesis that is corrupted or has nothing to do with it."""
    stream = Stream(10_000, [number])
    reference = [WORDS[stream.below(len(WORDS))] for _ in range(stream.below(16))]
    if stream.below(4) == 0:
        return reference, [WORDS[stream.below(len(WORDS))] for _ in range(stream.below(16))]
    hypothesis = []
    for word in reference:
        chance = stream.below(10)
        if chance == 0:
            continue
        hypothesis.append(WORDS[stream.below(len(WORDS))] if chance < 3 else word)
        if chance == 9:
            hypothesis.append(WORDS[stream.below(len(WORDS))])
    return reference, hypothesis


blocks = []
for start in range(0, PAIRS, BLOCK):
    sums, digest = [0] * 6, 0xCBF29CE484222325
    for number in range(start, start + BLOCK):
        reference, hypothesis = (" ".join(words) for words in pair(number))
        words = jiwer.process_words(reference, hypothesis)
        characters = jiwer.process_characters(reference, hypothesis)
        counts = [n for o in (words, characters) for n in (o.substitutions, o.deletions, o.insertions)]
        sums = [a + b for a, b in zip(sums, counts)]
        for count in counts:  # FNV-1a
            digest = ((digest ^ count) * 0x100000001B3) & MASK
    blocks.append([*sums, digest])
print(json.dumps(blocks, separators=(",", ":")))

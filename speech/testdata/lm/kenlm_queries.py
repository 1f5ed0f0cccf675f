"""Writes queries.arpa and queries.txt: a model and what KenLM says of sentences with it, a line each: the
sentence, a tab, and the base-10 logarithms of its words and its end.

    pip install kenlm==0.3.0
    python3 kenlm_queries.py

The model is not one that any trainer would make: its numbers are drawn, a third of its n-grams are left
out (with those that they are the context of), so that every way of backing off occurs.
"""

import random

import kenlm

draw = random.Random(11)
words = ["<unk>", "<s>", "</s>"] + "one two three four five six seven eight nine ten".split()
spoken = words[3:]
levels = [{(word,): None for word in words}]
for length in range(2, 5):
    level = {}
    for context in levels[-1]:
        if context[-1] == "</s>" or "<unk>" in context:
            continue
        for word in spoken + ["</s>"]:
            # KenLM takes few n-grams without their suffix, but must take some.
            whole = context[1:] + (word,) in levels[-1] or draw.random() < 0.02
            if whole and draw.random() < (0.4, 0.7, 0.8)[length - 2]:
                level[context + (word,)] = None
    levels.append(level)

with open("queries.arpa", "w") as out:
    print("\\data\\", file=out)
    for length, level in enumerate(levels, 1):
        print(f"ngram {length}={len(level)}", file=out)
    for length, level in enumerate(levels, 1):
        print(f"\n\\{length}-grams:", file=out)
        ngrams = list(level)
        draw.shuffle(ngrams)
        for ngram in ngrams:
            log = -99 if ngram == ("<s>",) else -draw.uniform(0.01, 3)
            back = -draw.uniform(0.01, 1.5)
            line = f"{log:.6f}\t{' '.join(ngram)}"
            print(line + ("" if length == len(levels) or ngram[-1] == "</s>" else f"\t{back:.6f}"), file=out)
    print("\n\\end\\", file=out)

model = kenlm.Model("queries.arpa")
with open("queries.txt", "w") as out:
    for _ in range(300):
        sentence = [draw.choice(spoken + ["eleven"]) for _ in range(draw.randint(0, 8))]
        logs = [log for log, _, _ in model.full_scores(" ".join(sentence), bos=True, eos=True)]
        print(" ".join(sentence) + "\t" + " ".join(f"{log:.6f}" for log in logs), file=out)

"""Reads aligned.TextGrid, which speech::textgrid writes in its test, with two parsers that are not ours.

pip install praatio==6.2.2 textgrid==1.6.1 && python textgrid.py
"""

import sys
from pathlib import Path

folder = Path(__file__).parent
sys.path = [path for path in sys.path if Path(path or ".").resolve() != folder]  # this file has a parser's name

import textgrid as parser
from praatio import textgrid as praatio

path = folder / "aligned.TextGrid"
wanted = {
    "words": [(0.25, 0.5, "go"), (0.5, 1.0, '"on" '), (1.5, 2.0, "été")],
    "units": [(0.0, 2.0, "all")],
    "nothing": [],
}

first = praatio.openTextgrid(str(path), includeEmptyIntervals=False)
assert first.minTimestamp == 0 and first.maxTimestamp == 2.0
assert list(first.tierNames) == list(wanted)
for name, intervals in wanted.items():
    found = [(one.start, one.end, one.label) for one in first.getTier(name).entries]
    # It takes white space off labels.
    assert found == [(start, end, label.strip()) for start, end, label in intervals], found

second = parser.TextGrid.fromFile(str(path))
assert (second.minTime, second.maxTime) == (0, 2.0)
for tier in second:
    assert tier[0].minTime == 0 and tier[-1].maxTime == 2.0
    assert all(before.maxTime == after.minTime for before, after in zip(tier, tier[1:]))
    found = [(one.minTime, one.maxTime, one.mark) for one in tier if one.mark]
    assert found == wanted[tier.name], found
print("as both read it")

"""Makes significance.json: intervals and p-values by scipy.

pip install scipy==1.17.1 && python significance.py > significance.json
"""

import json

import numpy as np
from scipy import special, stats

draw = np.random.default_rng(4)


def statistic(errors, reference, axis=-1):
    return errors.sum(axis=axis) / reference.sum(axis=axis)


def bootstrap(errors, reference, resamples=100_000):
    found = stats.bootstrap(
        (errors, reference), statistic, paired=True, vectorized=True, n_resamples=resamples,
        batch=2_000, method="percentile", rng=draw)
    return [found.confidence_interval.low, found.confidence_interval.high]


def case(count, better):
    reference = draw.integers(1, 15, count)
    hard = draw.beta(1.2, 6, count)  # utterances are not equally hard
    first = draw.binomial(reference, hard)
    second = draw.binomial(reference, hard * better)
    difference = second - first
    z = difference.mean() / (difference.std(ddof=1) / np.sqrt(count))
    # The statistic is that of scipy's paired t-test, the distribution Gillick and Cox's normal one.
    assert abs(z - stats.ttest_rel(second, first).statistic) < 1e-12
    lost = int(((first == 0) & (second > 0)).sum())
    won = int(((first > 0) & (second == 0)).sum())
    return {
        "reference": reference.tolist(),
        "first": first.tolist(),
        "second": second.tolist(),
        "interval": bootstrap(first, reference),
        "difference": bootstrap(difference, reference),
        "z": z,
        "matched_pairs": float(special.erfc(abs(z) / np.sqrt(2))),
        "mcnemar": stats.binomtest(min(lost, won), lost + won).pvalue if lost + won else 1.0,
    }


cases = [case(40, 0.8), case(200, 0.95), case(400, 0.6), case(60, 1.0)]
print(json.dumps(cases, separators=(",", ":")))

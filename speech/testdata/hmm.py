"""Makes hmm.json: log-probabilities, best paths and posteriors by hmmlearn.

pip install hmmlearn==0.3.3 numpy==2.4.6 && python hmm.py > hmm.json
"""

import json

import numpy as np
from hmmlearn import hmm

draw = np.random.default_rng(15)


def left_right(states):
    matrix = np.zeros((states, states))
    for state in range(states):
        matrix[state, state] = 0.6
        matrix[state, min(state + 1, states - 1)] += 0.3
        matrix[state, min(state + 2, states - 1)] += 0.1
    start = np.zeros(states)
    start[0] = 1.0
    return start, matrix


def ergodic(states):
    return draw.dirichlet(np.ones(states)), draw.dirichlet(np.ones(states), states)


def case(start, matrix, frames, mixtures):
    states, dims = len(start), 3
    if mixtures == 1:
        model = hmm.GaussianHMM(states, covariance_type="diag")
        model.means_ = draw.normal(size=(states, dims))
        model.covars_ = draw.uniform(0.5, 2, (states, dims))
    else:
        model = hmm.GMMHMM(states, n_mix=mixtures, covariance_type="diag")
        model.weights_ = draw.dirichlet(np.ones(mixtures), states)
        model.means_ = draw.normal(size=(states, mixtures, dims))
        model.covars_ = draw.uniform(0.5, 2, (states, mixtures, dims))
    model.n_features = dims
    model.startprob_, model.transmat_ = start, matrix
    x = draw.normal(size=(frames, dims)) * 1.5
    best, path = model.decode(x)
    return {
        "start": start.tolist(),
        "transitions": matrix.tolist(),
        "scores": model._compute_log_likelihood(x).tolist(),
        "log_probability": model.score(x),
        "best_log_probability": best,
        "best_path": path.tolist(),
        "posteriors": model.predict_proba(x).tolist(),
    }


cases = [
    case(*left_right(4), frames=12, mixtures=1),
    case(*ergodic(3), frames=20, mixtures=1),
    case(*left_right(6), frames=25, mixtures=2),
    case(*ergodic(5), frames=8, mixtures=3),
    case(*ergodic(2), frames=1, mixtures=1),
]
print(json.dumps(cases))

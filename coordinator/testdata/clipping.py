"""Writes clipping.json: rules of gradient clipping as their authors' programs compute them.

    python clipping.py       (torch 2.15, timm 1.0.31, zclip 1.0.0, pytorch_optimizer 4.1.0, numpy; CPU, one thread)

A gradient is a base times a factor for each tensor and step, so that a file of norms says all: 200 steps with spikes.
Rules without a program of their own are written down here from their paper's formula, in numpy.
"""

import json
import pathlib

import numpy as np
import torch
from pytorch_optimizer import AdaGC
from timm.utils.agc import adaptive_clip_grad
from zclip import ZClip

torch.set_num_threads(1)
torch.manual_seed(21)
STEPS = 200
# The tensors of `spec` in src/trainer/clip/tests.rs, in order.
SHAPES = [(24, 5), (24, 6), (24,), (24,), (4, 6), (4,)]
BASE = [torch.randn(shape) for shape in SHAPES]
WEIGHTS = [torch.randn(shape) * 0.3 for shape in SHAPES]
WEIGHTS[3].zero_()
random = np.random.default_rng(21)
FACTORS = np.exp(0.4 * random.standard_normal((STEPS, len(SHAPES))))
FACTORS[[30, 31, 77, 120, 121, 122, 199]] *= np.array([[40], [3], [900], [8], [8], [8], [25]])
FACTORS = FACTORS.astype(np.float32)
FACTORS[155, 2] = 0.0


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.tensors = torch.nn.ParameterList(torch.nn.Parameter(weight.clone()) for weight in WEIGHTS)

    def take(self, step):
        for tensor, base, factor in zip(self.tensors, BASE, FACTORS[step]):
            tensor.grad = base * float(factor)

    def norms(self):
        return [float(tensor.grad.double().norm()) for tensor in self.tensors]


def by(clip):
    """The norms of each tensor after each step; `clip(model, step)` clips in place."""
    model, after = Model(), []
    for step in range(STEPS):
        model.take(step)
        clip(model, step)
        after.append(model.norms())
    return after


def scale(tensors, factor):
    for tensor in tensors:
        tensor.grad.mul_(factor)


def total(tensors):
    return float(np.sqrt(sum(float(tensor.grad.double().norm()) ** 2 for tensor in tensors)))


def percentile(p):
    """AutoClip's dozen lines: https://github.com/pseeth/autoclip."""
    history = []

    def clip(model, step):
        history.append(total(model.tensors))
        torch.nn.utils.clip_grad_norm_(model.tensors, float(np.percentile(history, p)))

    return clip


def median(factor, period):
    """`ScaledAdam._get_clipping_scale` of icefall (zipformer/optim.py), on plain norms."""
    state = {"norms": np.zeros(period), "threshold": None}

    def clip(model, step):
        if step == 0:
            return
        norm = total(model.tensors)
        state["norms"][step % period] = norm
        irregular = [i for i in [10, 20, 40] if i < period]
        if step % period == 0 or step in irregular:
            norms = np.sort(state["norms"])
            if step in irregular:
                norms = norms[-step:]
            state["threshold"] = factor * norms[min(len(norms) - 1, len(norms) // 4 * 2)]
            if step in irregular:
                state["threshold"] *= 2.0
        if state["threshold"] is not None:
            scale(model.tensors, min(1.0, state["threshold"] / (norm + 1e-20)))

    return clip


def zclip(**options):
    rule = ZClip(**options)
    return lambda model, step: rule.step(model)


def adagc():
    """Without momentum, the first moment is the clipped gradient."""
    model = Model()
    rule = AdaGC(model.tensors, lr=0.0, betas=(0.0, 0.99), eps=1e-6, lambda_abs=1.0, lambda_rel=1.05, beta=0.98,
                 warmup_steps=100, foreach=False)
    after = []
    for step in range(STEPS):
        model.take(step)
        rule.step()
        after.append([float(rule.state[tensor]["exp_avg"].double().norm()) for tensor in model.tensors])
    return after


def agc(exempt):
    return lambda model, step: adaptive_clip_grad(model.tensors[:exempt], clip_factor=0.05, eps=1e-3)


def smooth(limit):
    def clip(model, step):
        scale(model.tensors, limit / (total(model.tensors) + limit))

    return clip


def normalize(limit):
    def clip(model, step):
        scale(model.tensors, limit / (total(model.tensors) + 1e-6))

    return clip


def lars(ratio):
    """The local rate of LARS without weight decay, g · η ‖w‖ / ‖g‖, with a least ‖w‖."""

    def clip(model, step):
        for tensor in model.tensors:
            weights = max(float(tensor.detach().double().norm()), 1e-3)
            scale([tensor], ratio * weights / (total([tensor]) + 1e-6))

    return clip


def tensors(limit):
    def clip(model, step):
        for tensor in model.tensors:
            torch.nn.utils.clip_grad_norm_([tensor], limit)

    return clip


CASES = [
    ({"policy": "global-norm", "max_norm": 12.0},
     by(lambda model, step: torch.nn.utils.clip_grad_norm_(model.tensors, 12.0))),
    ({"policy": "norm", "scope": "tensor", "max_norm": 5.0}, by(tensors(5.0))),
    ({"policy": "smooth", "max_norm": 12.0}, by(smooth(12.0))),
    ({"policy": "normalize", "max_norm": 12.0}, by(normalize(12.0))),
    ({"policy": "normalize", "scope": "tensor", "threshold": "weight-ratio", "clip_factor": 0.02}, by(lars(0.02))),
    ({"policy": "global-norm", "threshold": "percentile"}, by(percentile(10))),
    ({"policy": "global-norm", "threshold": "percentile", "percentile": 62.5}, by(percentile(62.5))),
    ({"policy": "global-norm", "threshold": "median"}, by(median(2.0, 100))),
    ({"policy": "global-norm", "threshold": "median", "clipping_scale": 1.2, "clipping_update_period": 15},
     by(median(1.2, 15))),
    ({"policy": "global-norm", "threshold": "z-score"}, by(zclip(max_grad_norm=None))),
    ({"policy": "global-norm", "threshold": "z-score", "z_thresh": 1.5, "alpha": 0.9, "warmup_steps": 12, "ceiling": 22.0},
     by(zclip(max_grad_norm=22.0, z_thresh=1.5, alpha=0.9, warmup_steps=12))),
    ({"policy": "norm", "scope": "tensor", "threshold": "moving-average"}, adagc()),
    ({"policy": "norm", "scope": "unit", "threshold": "weight-ratio", "clip_factor": 0.05}, by(agc(6))),
    ({"policy": "norm", "scope": "unit", "threshold": "weight-ratio", "clip_factor": 0.05, "exempt": ["head.*"]},
     by(agc(4))),
]


def flat(values):
    return [float(value) for tensor in values for value in tensor.reshape(-1)]


def main():
    # Six digits say more than the f32 in which most of these programs compute.
    rounded = [{"config": config, "after": [[float(f"{norm:.6g}") for norm in row] for row in after]} for config, after in CASES]
    goldens = {
        "base": flat(BASE),
        "weights": flat(WEIGHTS),
        "factors": [[float(factor) for factor in row] for row in FACTORS],
        "cases": rounded,
    }
    path = pathlib.Path(__file__).with_name("clipping.json")
    path.write_text(json.dumps(goldens, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()

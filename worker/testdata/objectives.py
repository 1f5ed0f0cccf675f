"""Makes objectives.json: losses with smoothed targets and weighted classes by PyTorch in f64.

    python3 worker/testdata/objectives.py        (made with torch 2.15.0)

Cross-entropy is torch's own, weights and smoothing included. CTC's smoothing is that of Kim et al. 2018
(arXiv 1711.02212): each frame's divergence from the uniform distribution, differentiated by autograd.
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F

torch.manual_seed(3)


def rounded(tensor):
    """Values that f32 holds exactly, in f64."""
    return tensor.to(torch.float32).to(torch.float64)


def case(head, smoothing, weights, target, logits, loss):
    loss.backward()
    return {
        "head": head,
        "label_smoothing": smoothing,
        "class_weights": weights,
        "target": target,
        "outputs": logits.shape[-1],
        "logits": logits.flatten().tolist(),
        "loss": loss.item(),
        "gradient": logits.grad.flatten().tolist(),
    }


def keyword():
    for smoothing, weights, target in [
        (0.1, [], 2),
        (0.0, [0.5, 2.0, 0.25, 1.0, 3.0, 1.5], 4),
        (0.3, [0.5, 2.0, 0.25, 1.0, 0.0, 1.5], 1),
        (0.3, [0.5, 2.0, 0.25, 1.0, 0.0, 1.5], 4),
    ]:
        logits = rounded(3.0 * torch.randn(1, 6, dtype=torch.float64)).requires_grad_()
        loss = F.cross_entropy(
            logits,
            torch.tensor([target]),
            weight=torch.tensor(weights, dtype=torch.float64) if weights else None,
            label_smoothing=smoothing,
            reduction="sum",
        )
        yield case("keyword", smoothing, weights, [target], logits, loss)


def ctc():
    for smoothing, frames, outputs, target in [
        (0.05, 12, 5, [1, 1, 3, 4]),
        (0.5, 6, 4, []),
        (0.2, 4, 3, [1, 1, 2]),
    ]:
        logits = rounded(2.0 * torch.randn(frames, outputs, dtype=torch.float64)).requires_grad_()
        log_probs = logits.log_softmax(-1)
        likelihood = F.ctc_loss(
            log_probs[:, None, :],
            torch.tensor([target], dtype=torch.long).reshape(1, len(target)),
            torch.tensor([frames]),
            torch.tensor([len(target)]),
            reduction="sum",
        )
        uniform = torch.full_like(log_probs, -math.log(outputs))
        divergence = F.kl_div(uniform, log_probs, reduction="sum", log_target=True)
        loss = (1 - smoothing) * likelihood + smoothing * divergence
        yield case("ctc", smoothing, [], target, logits, loss)


path = pathlib.Path(__file__).with_name("objectives.json")
path.write_text(json.dumps([*keyword(), *ctc()], separators=(",", ":")) + "\n")

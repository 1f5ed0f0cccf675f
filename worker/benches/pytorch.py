"""A training step of `unisono bench step` beside PyTorch's, shape by shape in one run: forward, loss,
backward, clipping by global norm, Adam. Prints median seconds of both and their ratio. For ragged
lengths PyTorch's faster way counts, padded or packed.

    python3 worker/benches/pytorch.py target/release/unisono [threads] [repeats]
"""

import json
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

SHAPES = {
    "a": dict(batch=16, frames=200, features=80, layers=2, hidden=256, outputs=32, labels=20, head="ctc"),
    "b": dict(batch=32, frames=400, features=80, layers=3, hidden=512, outputs=32, labels=40, head="ctc",
              bidirectional=True),
    "c": dict(batch=64, frames=98, features=40, layers=2, hidden=128, outputs=10, labels=1, head="keyword"),
}


def lengths_of(shape, ragged):
    """As `worker::measure` spreads them."""
    batch, frames = shape["batch"], shape["frames"]
    if not ragged:
        return [frames] * batch
    shortest = max(frames // 4, 1)
    steps = max(batch - 1, 1)
    return [shortest + (frames - shortest) * place // steps for place in range(batch)]


def torch_step(shape, ragged, packed, repeats):
    """Median seconds of a step."""
    torch.manual_seed(1)
    bidirectional = shape.get("bidirectional", False)
    batch, frames, outputs, labels = (shape[key] for key in ("batch", "frames", "outputs", "labels"))
    lstm = torch.nn.LSTM(shape["features"], shape["hidden"], shape["layers"], bidirectional=bidirectional)
    linear = torch.nn.Linear(shape["hidden"] * (2 if bidirectional else 1), outputs)
    parameters = [*lstm.parameters(), *linear.parameters()]
    adam = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    x = torch.randn(frames, batch, shape["features"])
    lengths = torch.tensor(lengths_of(shape, ragged))
    targets = torch.randint(1, outputs, (batch, labels))
    target_lengths = torch.full((batch,), labels)
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        adam.zero_grad(set_to_none=True)
        if packed:
            y, _ = lstm(pack_padded_sequence(x, lengths, enforce_sorted=False))
            y, _ = pad_packed_sequence(y)
        else:
            y, _ = lstm(x)
        if shape["head"] == "ctc":
            log_probs = linear(y).log_softmax(-1)
            loss = F.ctc_loss(log_probs, targets, lengths, target_lengths, reduction="sum")
        else:
            last = y[lengths - 1, torch.arange(batch)]
            loss = F.cross_entropy(linear(last), targets[:, 0], reduction="sum")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        adam.step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def unisono_step(program, shape, ragged, threads, repeats):
    """Median seconds of a step."""
    arguments = [program, "bench", "step", "--device", "cpu", "-o", "json"]
    arguments += ["--threads", str(threads), "--repeats", str(repeats)]
    for key, value in shape.items():
        arguments += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    arguments += ["--ragged"] if ragged else []
    return json.loads(subprocess.run(arguments, check=True, capture_output=True).stdout)["step_s"]


def main():
    program = sys.argv[1]
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    repeats = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    torch.set_num_threads(threads)
    print(f"PyTorch {torch.__version__}, {threads} threads, medians of {repeats}")
    print(f"{'shape':10} {'unisono s':>10} {'PyTorch s':>10} {'ratio':>6}")
    for name, shape in SHAPES.items():
        for ragged in (False, True):
            ours = unisono_step(program, shape, ragged, threads, repeats)
            ways = (False, True) if ragged else (False,)
            theirs = min(torch_step(shape, ragged, packed, repeats) for packed in ways)
            label = f"{name} ragged" if ragged else name
            print(f"{label:10} {ours:10.4f} {theirs:10.4f} {ours / theirs:6.2f}")


if __name__ == "__main__":
    main()

"""The shapes of lstm.rs in PyTorch: median seconds of a training step (forward, loss, backward).

    python3 worker/benches/pytorch.py [threads]
"""

import statistics
import sys
import time

import torch
import torch.nn.functional as F

SHAPES = {
    "a 16x200x80 2x256 ctc": (16, 200, 80, 2, 256, False, "ctc", 32, 20),
    "c 64x98x40 2x128 keyword": (64, 98, 40, 2, 128, False, "keyword", 10, 1),
    "an4 16x100x120 2x256 bidirectional ctc": (16, 100, 120, 2, 256, True, "ctc", 32, 20),
}

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
torch.manual_seed(1)
for name, (batch, frames, features, layers, hidden, bidirectional, head, outputs, labels) in SHAPES.items():
    lstm = torch.nn.LSTM(features, hidden, layers, bidirectional=bidirectional)
    linear = torch.nn.Linear(hidden * (2 if bidirectional else 1), outputs)
    parameters = list(lstm.parameters()) + list(linear.parameters())
    x = torch.randn(frames, batch, features)
    targets = torch.randint(1, outputs, (batch, labels))
    lengths = torch.full((batch,), frames)
    target_lengths = torch.full((batch,), labels)
    times = []
    for _ in range(15):
        start = time.perf_counter()
        for parameter in parameters:
            parameter.grad = None
        y, _ = lstm(x)
        if head == "ctc":
            log_probs = linear(y).log_softmax(-1)
            loss = F.ctc_loss(log_probs, targets, lengths, target_lengths, reduction="sum")
        else:
            loss = F.cross_entropy(linear(y[-1]), targets[:, 0], reduction="sum")
        loss.backward()
        times.append(time.perf_counter() - start)
    print(f"{name}: {statistics.median(times[3:]):.4f} s")

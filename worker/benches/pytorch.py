"""A training step of `unisono bench step` beside PyTorch's, shape by shape in one run: forward, loss,
backward, clipping by global norm, Adam. Prints median seconds of both and their ratio. For ragged
lengths PyTorch's faster way counts, padded or packed.

    python3 worker/benches/pytorch.py target/release/unisono [--shapes a,b,c] [--lengths even,ragged]
        [--threads 1,2] [--repeats 5] [--no-packed] [--cpu] [--kernels target/release/deps/kernels-…]

The shapes gru, rnn, dnn, projection, crnn and cnn are of other kinds of model, for even lengths.

Shape b takes seconds a step, and packed minutes: fewer repeats and `--no-packed` are for it. `--cpu`
compares processor seconds on one thread, for a machine that others use too. With the program that
`cargo bench --workspace --bench kernels --no-run` builds, log-softmax and CTC are compared as well.
"""

import argparse
import json
import re
import resource
import statistics
import subprocess
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
SHAPES |= {
    "gru": SHAPES["a"] | dict(kind="gru"),
    "rnn": SHAPES["a"] | dict(kind="rnn"),
    "dnn": SHAPES["a"] | dict(kind="dnn"),
    "projection": SHAPES["a"] | dict(projection=64),
    "crnn": SHAPES["a"] | dict(kind="gru", conv="32,32"),
    "cnn": SHAPES["c"] | dict(batch=16, kind="cnn"),
}


class Body(torch.nn.Module):
    """The layers of a shape below its output: frames [T, B, features] to [T', B, width]."""

    def __init__(self, shape):
        super().__init__()
        kind, features, hidden = shape.get("kind", "lstm"), shape["features"], shape["hidden"]
        self.kind, self.front = kind, torch.nn.ModuleList()
        channels, bands = 1, features
        for outputs in map(int, shape.get("conv", "").split(",") if "conv" in shape else []):
            self.front.append(torch.nn.Conv2d(channels, outputs, 3, 2, 1))
            channels, bands = outputs, (bands + 1) // 2
        inputs, both = channels * bands, 2 if shape.get("bidirectional") else 1
        if kind in ("lstm", "gru", "rnn"):
            make = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[kind]
            options = dict(proj_size=shape["projection"]) if "projection" in shape else {}
            self.layers = make(inputs, hidden, shape["layers"], bidirectional=both == 2, **options)
            self.width = both * shape.get("projection", hidden)
        elif kind == "dnn":
            sizes = [inputs] + [hidden] * shape["layers"]
            linear = [torch.nn.Sequential(torch.nn.Linear(a, b), torch.nn.ReLU()) for a, b in zip(sizes, sizes[1:])]
            self.layers, self.width = torch.nn.Sequential(*linear), hidden
        else:
            bands = -(-features // 3)
            conv = lambda inputs: torch.nn.Conv2d(inputs, 45, 3, 1, 1, bias=False)
            self.first, self.width = conv(1), 45
            self.layers = torch.nn.ModuleList(conv(45) for _ in range(6))
            self.norms = torch.nn.ModuleList(torch.nn.LayerNorm([bands, 45]) for _ in range(6))

    def forward(self, x):
        if self.kind == "cnn":
            return self.residual(x)
        if len(self.front):
            x = x.permute(1, 0, 2)[:, None]
            for conv in self.front:
                x = F.relu(conv(x))
            x = x.permute(2, 0, 3, 1).flatten(2)
        return self.layers(x) if self.kind == "dnn" else self.layers(x)[0]

    def residual(self, x):
        """res8, normalised frame by frame."""
        x = F.relu(self.first(x.permute(1, 0, 2)[:, None]))
        x = around = F.avg_pool2d(x, (4, 3), ceil_mode=True, count_include_pad=False)
        for index, (conv, norm) in enumerate(zip(self.layers, self.norms)):
            x = F.relu(conv(x))
            if index % 2:
                x = around = x + around
            x = norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x.mean(3).permute(2, 0, 1)


def lengths_of(shape, ragged):
    """As `worker::bench::step` spreads them."""
    batch, frames = shape["batch"], shape["frames"]
    if not ragged:
        return [frames] * batch
    shortest = max(frames // 4, 1)
    steps = max(batch - 1, 1)
    return [shortest + (frames - shortest) * place // steps for place in range(batch)]


def torch_step(shape, ragged, packed, repeats, clock, device="cpu"):
    """Median seconds of a step. On another device than the CPU `clock` has to wait for what was launched."""
    torch.manual_seed(1)
    batch, frames, outputs, labels = (shape[key] for key in ("batch", "frames", "outputs", "labels"))
    body = Body(shape).to(device)
    linear = torch.nn.Linear(body.width, outputs).to(device)
    parameters = [*body.parameters(), *linear.parameters()]
    adam = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    x = torch.randn(frames, batch, shape["features"]).to(device)
    # Lengths stay on the CPU, as packing and the loss take them.
    lengths = torch.tensor(lengths_of(shape, ragged))
    targets = torch.randint(1, outputs, (batch, labels)).to(device)
    target_lengths = torch.full((batch,), labels)

    def step():
        adam.zero_grad(set_to_none=True)
        if packed:
            y, _ = body.layers(pack_padded_sequence(x, lengths, enforce_sorted=False))
            y, _ = pad_packed_sequence(y)
        else:
            y = body(x)
        if shape["head"] == "ctc":
            log_probs = linear(y).log_softmax(-1)
            own = torch.ceil(lengths * len(y) / frames).int()
            loss = F.ctc_loss(log_probs, targets, own, target_lengths, reduction="sum")
        else:
            pooled = body.kind in ("cnn", "dnn")
            last = y.mean(0) if pooled else y[lengths - 1, torch.arange(batch)]
            loss = F.cross_entropy(linear(last), targets[:, 0], reduction="sum")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        adam.step()

    return median(step, repeats, clock)


def torch_ctc(repeats, clock):
    """Median seconds of log-softmax and CTC, forward and backward."""
    frames, batch, outputs, labels = CTC
    x = torch.randn(frames, batch, outputs, requires_grad=True)
    targets = torch.randint(1, outputs, (batch, labels))
    sizes = torch.full((batch,), frames), torch.full((batch,), labels)

    def step():
        x.grad = None
        F.ctc_loss(x.log_softmax(-1), targets, *sizes, reduction="sum").backward()

    return median(step, repeats, clock)


CTC = (400, 16, 32, 40)


def median(step, repeats, clock):
    times = []
    for _ in range(repeats + 2):
        start = clock()
        step()
        times.append(clock() - start)
    return statistics.median(times[2:])


def unisono_step(program, shape, ragged, threads, repeats, cpu):
    """Median seconds of a step; with `cpu`, the mean processor seconds of one."""
    arguments = [program, "bench", "step", "--device", "cpu", "-o", "json", "--threads", str(threads)]
    for key, value in shape.items():
        arguments += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    arguments += ["--ragged"] if ragged else []

    def run(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        out = subprocess.run([*arguments, "--repeats", str(repeats)], check=True, capture_output=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return json.loads(out)["step_s"], used

    if cpu:
        # What else the program does falls out of the difference.
        return (run(repeats + 1)[1] - run(1)[1]) / repeats
    return run(repeats)[0]


def unisono_ctc(program):
    """Median seconds that the benchmark of the kernels prints."""
    frames, batch, outputs, labels = CTC
    arguments = [program, "--bench", "ctc"]
    out = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    row = next(line for line in out.splitlines() if f"[{batch}, {frames}, {outputs}, {labels}]" in line)
    value, unit = re.findall(r"([\d.]+) (ns|µs|ms|s)\b", row)[2]
    return float(value) * {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[unit]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--shapes", default="a,b,c")
    parser.add_argument("--lengths", default="even,ragged")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-packed", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--kernels")
    args = parser.parse_args()
    if args.cpu and args.threads != "1":
        parser.error("--cpu is for one thread")
    return args


def main():
    args = arguments()
    clock = time.process_time if args.cpu else time.perf_counter
    print(f"PyTorch {torch.__version__}, medians of {args.repeats}")
    print(f"{'shape':10} {'threads':>7} {'unisono s':>10} {'PyTorch s':>10} {'ratio':>6}", flush=True)

    def row(label, threads, ours, theirs):
        print(f"{label:10} {threads:7} {ours:10.4f} {theirs:10.4f} {ours / theirs:6.2f}", flush=True)

    for threads in map(int, args.threads.split(",")):
        torch.set_num_threads(threads)
        for name in args.shapes.split(","):
            shape = SHAPES[name]
            for lengths in args.lengths.split(",") if name in "abc" else ["even"]:
                ragged = lengths == "ragged"
                ours = unisono_step(args.program, shape, ragged, threads, args.repeats, args.cpu)
                ways = (False, True) if ragged and not args.no_packed else (False,)
                theirs = min(torch_step(shape, ragged, packed, args.repeats, clock) for packed in ways)
                row(f"{name} ragged" if ragged else name, threads, ours, theirs)
    if args.kernels:
        torch.set_num_threads(1)
        row("ctc", 1, unisono_ctc(args.kernels), torch_ctc(4 * args.repeats, clock))


if __name__ == "__main__":
    main()

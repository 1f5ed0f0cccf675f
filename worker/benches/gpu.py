#!/usr/bin/env python3
"""Everything worth knowing of a machine with a GPU, in less than ten minutes and in one JSON file: every test on wgpu,
`unisono bench step` for the shapes a, b and c with PyTorch (cuDNN) beside it, and a training of examples/digits.toml
with two workers.

    cargo build --release && cargo test --release --workspace --no-run
    python3 worker/benches/gpu.py target/release [--out gpu.json] [--minutes 9.5] [--epochs N]

The folder holds the program `unisono` and the test binaries `model-…`, `kernels-…` and `tests-…`, or has them in
`deps/`. They may come from another machine: copy them, and this checkout. Where torch cannot be imported, or has no
CUDA device, PyTorch is left out and the file says so. VK_DRIVER_FILES chooses a Vulkan driver, and
UNISONO_WGPU_KERNELS=hardware has a software adapter compute what a GPU would. `--epochs` shortens the training.

The exit code is 1 when a test fails, when the training does, or when a measurement of unisono's does not end in its
time; the file is written in any case. Python 3.9 or newer, its standard library, and torch where it is.
"""

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
DIGITS = os.path.join(HERE, "..", "..", "examples", "digits.toml")
# Seconds that each part may take. What one does not need is not given to another: their sum is below ten minutes.
TESTS, STEP, PEER, TRAINING, SMALL = 200, {"a": 40, "b": 70, "c": 40}, 30, 120, 15
# As `pytorch.py` has them; that file cannot be imported without torch.
SHAPES = {
    "a": "--batch 16 --frames 200 --features 80 --layers 2 --hidden 256 --outputs 32 --labels 20 --head ctc",
    "b": "--batch 32 --frames 400 --features 80 --layers 3 --hidden 512 --outputs 32 --labels 40 --head ctc --bidirectional",
    "c": "--batch 64 --frames 98 --features 40 --layers 2 --hidden 128 --outputs 10 --labels 1 --head keyword",
}
REPORT = ("status", "error", "weights_sha256", "compute_class", "steps", "epochs", "workers", "seconds", "times", "metrics", "loss")


class Clock:
    """What is left of the time for everything."""

    def __init__(self, minutes):
        self.end = time.monotonic() + 60 * minutes

    def left(self, most):
        return max(0.0, min(most, self.end - time.monotonic()))

    def part(self, seconds):
        """A clock for a part that has so many seconds."""
        return Clock(self.left(seconds) / 60)


def run(words, seconds, environment=None):
    """(exit code or None when the time was up, standard output, standard error, seconds)."""
    began = time.monotonic()
    if seconds <= 1:
        return None, "", "no time was left", 0.0
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        env={**os.environ, **(environment or {})}, start_new_session=True,
    )
    try:
        out, error = process.communicate(timeout=seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        # Workers are its children, and go with it.
        os.killpg(process.pid, signal.SIGKILL)
        out, error = process.communicate()
        code, error = None, f"had not ended after {seconds:.0f} s\n{error}"
    return code, out, error, time.monotonic() - began


def tail(text, lines=15):
    return "\n".join(text.strip().splitlines()[-lines:])


def last_line(text):
    return (text.strip().splitlines() or ["nothing was said"])[-1]


def complaint(text):
    """The line of a program's standard error that says what went wrong."""
    lines = text.strip().splitlines() or ["nothing was said"]
    found = next((line for line in lines if line.startswith(("error", "had not ended"))), lines[0])
    cause = next((line.strip() for line in lines if "can't allocate" in line), None)
    return f"{found}: {cause}" if cause else found


def binaries(folder):
    """The program, and the newest binary of each kind that has tests on a GPU."""
    places = [place for place in (folder, os.path.join(folder, "deps"), os.path.dirname(folder)) if os.path.isdir(place)]
    program = next((p for p in (os.path.join(place, "unisono") for place in places) if os.access(p, os.X_OK)), None)
    if program is None:
        sys.exit(f"gpu.py: there is no program `unisono` in {folder}")
    found = {}
    for place in places:
        for name in sorted(os.listdir(place)):
            kind = re.fullmatch(r"(model|kernels|tests)(-[0-9a-f]+)?", name)
            path = os.path.join(place, name)
            if kind and os.path.isfile(path) and os.access(path, os.X_OK):
                found.setdefault(kind[1], []).append(path)
    chosen = {}
    for kind, paths in sorted(found.items()):
        for path in sorted(paths, key=os.path.getmtime, reverse=True):
            # A benchmark may have the same name.
            code, out, _, _ = run([path, "--list", "gpu"], SMALL)
            if code == 0 and re.search(r"^\S*gpu\S*: test$", out, re.M):
                chosen[kind] = path
                break
    return os.path.abspath(program), chosen


def tests(program, chosen, clock):
    """The outcome of every test on wgpu, by binary. One at a time: each has the device to itself."""
    results, problems = {}, []
    clock = clock.part(TESTS)
    for kind in ("model", "kernels", "tests"):
        if kind not in chosen:
            problems.append(f"tests: no test binary `{kind}-…`")
            continue
        environment = {"UNISONO_REQUIRE_WGPU": "1", "UNISONO_TEST_PROGRAM": program}
        words = [chosen[kind], "--test-threads", "1", "--show-output", "gpu"]
        code, out, error, seconds = run(words, clock.left(TESTS), environment)
        outcome = {"passed": [], "failed": [], "ignored": []}
        for name, what in re.findall(r"^test (\S+) \.\.\. (ok|FAILED|ignored)", out, re.M):
            outcome[{"ok": "passed", "FAILED": "failed"}.get(what, what)].append(name)
        skipped = sorted(set(re.findall(r"\*\*\* SKIPPED: (.*?) \*\*\*", out + error)))
        results[kind] = {**outcome, "skipped": skipped, "seconds": round(seconds, 1)}
        if code != 0:
            results[kind]["output"] = tail(out + error, 60)
            problems.append(f"tests: {kind}: " + (last_line(error) if code is None else f"exit code {code}"))
        print(f"tests      {kind}: {len(outcome['passed'])} passed, {len(outcome['failed'])} failed, {seconds:.0f} s", flush=True)
    return results, problems


def step(program, name, repeats, clock):
    words = [program, "bench", "step", "--device", "wgpu", "-o", "json", "--repeats", str(repeats), *SHAPES[name].split()]
    # The update is computed on the CPU, by the coordinator: with all cores.
    words += ["--threads", str(os.cpu_count())]
    code, out, error, _ = run(words, clock.left(STEP[name]))
    if code != 0:
        return {"error": complaint(error), "output": tail(error)}
    return json.loads(out)


def peer(name, repeats, clock):
    """PyTorch's step on its CUDA device, in a process of its own."""
    code, out, error, _ = run([sys.executable, os.path.abspath(__file__), "--peer", name, str(repeats)], clock.left(PEER))
    if code == 0:
        return json.loads(last_line(out))
    return {"error": tail(error, 3)}


def peer_step(name, repeats):
    """What `--peer` prints."""
    try:
        import torch
    except ImportError as error:
        return {"skipped": f"torch cannot be imported: {error}"}
    if not torch.cuda.is_available():
        return {"skipped": f"torch {torch.__version__} finds no CUDA device"}
    sys.path.insert(0, HERE)
    from pytorch import SHAPES as shapes, torch_step

    def clock():
        torch.cuda.synchronize()
        return time.perf_counter()

    return {
        "step_s": torch_step(shapes[name], False, False, repeats, clock, "cuda"),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "device": torch.cuda.get_device_name(),
    }


def steps(program, repeats, clock):
    results, problems = {}, []
    for name in SHAPES:
        ours, theirs = step(program, name, repeats, clock), peer(name, repeats, clock)
        row = {"unisono": ours, "pytorch": theirs}
        if "error" in ours:
            problems.append(f"steps: {name}: {ours['error']}")
        if "step_s" in ours and "step_s" in theirs:
            row["ratio"] = ours["step_s"] / theirs["step_s"]
        results[name] = row
        shown = f"{1e3 * ours['step_s']:.2f} ms" if "step_s" in ours else ours["error"]
        beside = f"{1e3 * theirs['step_s']:.2f} ms" if "step_s" in theirs else theirs.get("skipped") or last_line(theirs["error"])
        print(f"step       {name}: unisono {shown}; PyTorch {beside}", flush=True)
    return results, problems


def training(program, epochs, clock):
    folder = tempfile.mkdtemp(prefix="unisono-gpu-")
    try:
        words = [program, "train", os.path.normpath(DIGITS), "--device", "wgpu", "--workers", "2", "-o", "json"]
        words += ["--out", os.path.join(folder, "run")]
        words += ["--set", f"train.epochs={epochs}"] if epochs else []
        code, out, error, seconds = run(words, clock.left(TRAINING))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if code != 0:
        print(f"training   {complaint(error)}", flush=True)
        return {"error": complaint(error), "output": tail(error), "seconds": seconds}, ["training: " + complaint(error)]
    report = json.loads(out)
    result = {key: report[key] for key in REPORT if key in report}
    print(f"training   {report['steps']} steps in {report['seconds']:.1f} s: {json.dumps(report.get('metrics'))[:100]}", flush=True)
    return result, []


def machine(program, clock):
    """The machine and the versions of what matters on it."""
    code, out, error, _ = run([program, "doctor", "-o", "json"], clock.left(SMALL))
    doctor = json.loads(out) if code == 0 else {"error": tail(error)}
    found = {"doctor": doctor, "python": platform.python_version(), "system": platform.platform()}
    for name in ("VK_DRIVER_FILES", "UNISONO_WGPU_KERNELS"):
        if name in os.environ:
            found[name] = os.environ[name]
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        found["nvidia"] = run(query, clock.left(SMALL))[1].strip()
    return found


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "--peer":
        print(json.dumps(peer_step(sys.argv[2], int(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", help="with the program and the test binaries")
    parser.add_argument("--out", default="gpu.json", metavar="FILE")
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything")
    parser.add_argument("--repeats", type=int, default=5, help="steps that are timed")
    parser.add_argument("--epochs", type=int, help="of the training; the job's own when it is left out")
    args = parser.parse_args()

    began, clock = time.monotonic(), Clock(args.minutes)
    program, chosen = binaries(os.path.abspath(args.folder))
    results = {"format": 1, "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}
    results["machine"] = machine(program, clock)
    wgpu = results["machine"]["doctor"].get("wgpu")
    print("adapter    " + (wgpu["compute_class"] if wgpu else "none"), flush=True)
    problems = [] if wgpu else ["wgpu finds no adapter"]
    for part, measure in (
        ("tests", lambda: tests(program, chosen, clock)),
        ("steps", lambda: steps(program, args.repeats, clock)),
        ("training", lambda: training(program, args.epochs, clock)),
    ):
        results[part], found = measure()
        problems += found
    results["problems"] = problems
    results["seconds"] = round(time.monotonic() - began, 1)
    with open(args.out, "w", encoding="utf-8") as out:
        json.dump(results, out, indent=2)
        out.write("\n")
    print(f"{args.out}: {results['seconds']:.0f} s, {len(problems)} problems", flush=True)
    for problem in problems:
        print("  " + problem, flush=True)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

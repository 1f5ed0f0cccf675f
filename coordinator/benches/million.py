"""What a corpus of a million utterances costs the coordinator: seconds to the first step of a first start and of
a restart, its peak memory, and how long one worker takes to evaluate 100,000 utterances.

    python3 coordinator/benches/million.py target/release/unisono [FOLDER] [--utterances 1000000] [--valid 100000]
        [--files N] [--keep]

The corpus is made of a few recordings: by segments (offset and duration) of them, or with `--files N` by N hard
links to them, each under a name of its own. Each run has one worker with one thread on the CPU; the digests that
a first start keeps for the next one go into FOLDER too.
"""

import argparse
import json
import math
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import wave
from pathlib import Path

RATE = 8000
SEGMENT = 0.2
RECORDINGS, SECONDS = 50, 60
WORDS = "zero one two three four five six seven eight nine".split()

JOB = """
name = "{name}"
[corpus]
train = "{train}"
{valid}
[features]
sample_rate = 8000
mel_bins = 20
normalization = "utterance"
[model]
head = "keyword"
layers = 1
hidden = 8
pooling = "mean"
[train]
epochs = 1
batch = 64
micro_batch = 64
checkpoint_every = 10
"""


def recordings(folder):
    paths = []
    for number in range(RECORDINGS):
        path = folder / f"recording-{number:03}.wav"
        tones = (math.sin(0.05 * (number + 1) * at) * 9000 for at in range(RATE))
        second = b"".join(struct.pack("<h", int(tone)) for tone in tones)
        with wave.open(str(path), "wb") as out:
            out.setparams((1, 2, RATE, 0, "NONE", None))
            for _ in range(SECONDS):
                out.writeframes(second)
        paths.append(path)
    return paths


def manifest(path, paths, count, files):
    """Segments of `paths`; with `files`, of hard links to them."""
    per = int(SECONDS / SEGMENT)
    links = []
    if files:
        for number in range(files):
            link = path.parent / f"{path.stem}-links" / f"{number % 1000:03}" / f"clip-{number:07}.wav"
            if number < 1000:
                link.parent.mkdir(parents=True, exist_ok=True)
            os.link(paths[number % len(paths)], link)
            links.append(link)
    with open(path, "w") as out:
        for number in range(count):
            audio = links[number % files] if files else paths[number // per % len(paths)]
            line = {
                "id": f"{path.stem}/speaker-{number % 5000:05}/utterance-{number:08}",
                "audio_filepath": str(audio),
                "offset": round(SEGMENT * (number % per), 3),
                "duration": SEGMENT,
                "text": WORDS[number % len(WORDS)],
                "speaker": f"speaker-{number % 5000:05}",
            }
            out.write(json.dumps(line) + "\n")
    return path


def peak(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    return 0


def steps(run):
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def start(binary, job, run, folder, resume):
    """Trains until there is a step more than before. Gives seconds, and megabytes of the coordinator."""
    before = steps(run)
    environment = dict(os.environ, XDG_CACHE_HOME=str(folder / "cache"))
    command = [binary, "train", job, "--workers", "1", "--threads", "1", "--device", "cpu", "--out", run]
    began = time.monotonic()
    with open(folder / "train.log", "ab") as log:
        child = subprocess.Popen(
            [str(part) for part in command] + (["--resume"] if resume else []),
            env=environment, stdout=log, stderr=log,
        )
        while steps(run) <= before:
            if child.poll() is not None:
                raise SystemExit(f"training ended with {child.returncode}; see {folder}/train.log")
            time.sleep(0.02)
        seconds, memory = time.monotonic() - began, peak(child.pid)
        time.sleep(2)
        memory = max(memory, peak(child.pid))
        child.send_signal(signal.SIGINT)
        child.wait(60)
    return seconds, memory


def validate(binary, folder, paths, count):
    train = manifest(folder / "few.jsonl", paths, 64, 0)
    valid = manifest(folder / "valid.jsonl", paths, count, 0)
    job = folder / "valid.toml"
    job.write_text(JOB.format(name="valid", train=train, valid=f'valid = "{valid}"'))
    command = [binary, "train", job, "--workers", "1", "--threads", "1", "--device", "cpu", "--out", folder / "valid"]
    began = time.monotonic()
    with open(folder / "valid.log", "wb") as log:
        done = subprocess.run([str(part) for part in command], stdout=log, stderr=log,
                              env=dict(os.environ, XDG_CACHE_HOME=str(folder / "cache")))
    if done.returncode != 0:
        raise SystemExit(f"validating ended with {done.returncode}; see {folder}/valid.log")
    return time.monotonic() - began


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", type=Path)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--utterances", type=int, default=1_000_000)
    parser.add_argument("--valid", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    asked = parser.parse_args()
    binary = asked.binary.resolve()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="unisono-million-"))
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    paths = recordings(folder)
    train = manifest(folder / "train.jsonl", paths, asked.utterances, asked.files)
    job = folder / "job.toml"
    job.write_text(JOB.format(name="million", train=train, valid=""))
    time.sleep(3)
    run = folder / "run"
    for resume in (False, True, True):
        seconds, memory = start(binary, job, run, folder, resume)
        kind = "restart" if resume else "first start"
        print(f"{asked.utterances} utterances, {kind}: {seconds:.1f} s to the next step, {memory} MB", flush=True)
    seconds = validate(binary, folder, paths, asked.valid)
    print(f"{asked.valid} utterances evaluated by one worker: the whole job in {seconds:.1f} s", flush=True)
    if not asked.keep and asked.folder is None:
        shutil.rmtree(folder)


main()

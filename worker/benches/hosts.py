"""What a network costs: the time of a training step of two workers on two hosts, with the coordinator on a third, at
several rates of their links and with gradients and weights in f32 and bf16.

Hosts are network namespaces, joined by a bridge; both directions of each link have the rate (a token bucket filter). All
of them share this machine's processor: compare the rows with each other, not with a cluster. Needs root and iproute2.

    python3 worker/benches/hosts.py target/release/unisono
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

UNISONO = pathlib.Path(sys.argv[1]).resolve()
ENVIRONMENT = dict(os.environ, UNISONO_SHARED_MEMORY="off", UNISONO_ALLOW_PLAINTEXT="on")
RATES = (None, "1gbit", "200mbit")
HIDDEN = 1024
STEPS = 12
WARM_UP = 4
JOB = """name = "hosts"
[corpus]
synthetic = {{ task = "digits", train = 48, valid = 4, speakers = 4, valid_speakers = 1 }}
[features]
sample_rate = 8000
stack = 3
[model]
hidden = {hidden}
layers = 1
[train]
epochs = {epochs}
batch = 4
micro_batch = 2
checkpoint_every = 1000
wire = "{wire}"
"""


class Network:
    """Three hosts whose links have `rate`; one host without any link where that is None."""

    def __init__(self, rate):
        self.prefix = f"unisono-bench-{os.getpid()}"
        self.rate = rate
        self.names = [f"{self.prefix}-{host}" for host in ("switch", 0, 1, 2)] if rate else []

    def __enter__(self):
        if not self.rate:
            return self
        switch, *hosts = self.names
        for name in self.names:
            ip("netns", "add", name)
        ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", switch, "link", "set", "bridge", "up")
        for number, host in enumerate(hosts):
            port = f"port{number}"
            ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
            ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            ip("-n", host, "address", "add", f"10.78.0.{number + 1}/24", "dev", "eth0")
            ip("-n", host, "link", "set", "eth0", "up")
            ip("-n", host, "link", "set", "lo", "up")
            for name, device in ((switch, port), (host, "eth0")):
                limits = ["rate", self.rate, "burst", "256kb", "latency", "50ms"]
                ip("netns", "exec", name, "tc", "qdisc", "add", "dev", device, "root", "tbf", *limits)
        return self

    def __exit__(self, *_):
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False)

    def on(self, host):
        return ["ip", "netns", "exec", self.names[host + 1]] if self.rate else []

    def address(self):
        return "10.78.0.1" if self.rate else "127.0.0.1"


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def measure(rate, wire):
    """Medians of a step, and of what each worker waits for weights and for its contribution to arrive, in seconds."""
    with Network(rate) as network, tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        job = folder / "job.toml"
        job.write_text(JOB.format(hidden=HIDDEN, wire=wire, epochs=1))
        port = folder / "port"
        processes = []

        def start(host, *words):
            environment = dict(ENVIRONMENT, UNISONO_LOG="warn")
            command = [*network.on(host), UNISONO, *words]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            processes.append(subprocess.Popen(command, env=environment, cwd=folder, **quiet))

        try:
            listen = f"{network.address()}:0"
            start(0, "coordinator", "--listen", listen, "--allow-plaintext", "--data-dir", "data", "--port-file", port)
            while not port.exists():
                time.sleep(0.05)
            url = f"http://{network.address()}:{port.read_text().strip()}"
            for host in (1, 2):
                start(host, "worker", "--coordinator", url, "--device", "cpu", "--threads", "1", "--cache-dir", f"cache-{host}")
            submit = [*network.on(0), UNISONO, "submit", job, "--coordinator", url, "-o", "json"]
            done = subprocess.run(submit, env=ENVIRONMENT, cwd=folder, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            report = json.loads(done.stdout)
            (metrics,) = (folder / "data" / "jobs").glob("*/metrics.jsonl")
            steps = [json.loads(line) for line in metrics.read_text().splitlines()][WARM_UP:]
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                process.wait()
    median = lambda name: statistics.median(step[name] for step in steps)
    return median("seconds"), median("pull_s") / 2, median("push_s") / 2, report


def main():
    print("| links | wire | step | of which weights | and contributions | weights |")
    print("|---|---|---|---|---|---|")
    for wire in ("f32", "bf16"):
        for rate in RATES:
            seconds, pull, push, report = measure(rate, wire)
            name = {None: "loopback", "1gbit": "1 Gbit/s", "200mbit": "200 Mbit/s"}[rate]
            digest = report["weights_sha256"][:8]
            print(f"| {name} | `{wire}` | {seconds:.2f} s | {pull:.2f} s | {push:.2f} s | `{digest}…` |", flush=True)
            parameters = report["parameters"]
    print(f"\n{parameters / 1e6:.1f} million parameters, two micro-batches a step")


main()

"""What floods and other abuse cost a coordinator that trains an honest job: its memory, threads, descriptors and files
before, during and after, and the steps a second of the job.

    python3 coordinator/benches/attacks.py target/release/unisono [--minutes 5] [--only NAME,NAME]

The attacks run in turn for equal shares of the time, from addresses 127.0.0.2 and 127.0.0.3; the job has one worker at
127.0.0.1. They speak HTTP/2 by hand and need nothing but Python. Linux only (/proc).
"""

import argparse
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6

JOB = """
name = "honest"
[corpus]
synthetic = { task = "digits", train = 256, valid = 16, speakers = 4, valid_speakers = 2 }
[model]
hidden = 16
layers = 1
[train]
epochs = 1000000
batch = 16
micro_batch = 8
checkpoint_every = 500
"""


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Connection:
    """An HTTP/2 connection that reads nothing unless it is told to."""

    def __init__(self, port, source, settings=b""):
        self.socket = socket.socket()
        self.socket.settimeout(2)
        self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        self.stream = -1
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))

    def call(self, method, body=b"", end=False):
        """Begins a call; `body` is all that is sent of it."""
        self.stream += 2
        path = f"/unisono.v1.{method}".encode()
        headers = b"\x83\x86\x04" + bytes([len(path)]) + path + b"\x0f\x10\x10application/grpc"
        self.socket.sendall(frame(HEADERS, 4, self.stream, headers))
        if body or end:
            self.socket.sendall(frame(DATA, 1 if end else 0, self.stream, body))

    def close(self):
        self.socket.close()


def message(payload):
    return b"\0" + struct.pack(">I", len(payload)) + payload


def text(number, value):
    value = value.encode()
    length, encoded = len(value), b""
    while length > 127:
        encoded += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + encoded + bytes([length]) + value


class Attack:
    """Opens connections and makes calls until it is told to stop; what is refused is tried again."""

    def __init__(self, port, end):
        self.port, self.end, self.open = port, end, []

    def connections(self, count, settings=b""):
        for number in range(count):
            if time.monotonic() > self.end:
                return
            try:
                connection = Connection(self.port, f"127.0.0.{2 + number % 2}", settings)
            except OSError:
                time.sleep(0.05)
                continue
            self.open.append(connection)
            yield connection

    def calls(self, method, body, end, streams=60, connections=40, settings=b""):
        while time.monotonic() < self.end:
            for connection in self.connections(connections, settings):
                try:
                    for _ in range(streams):
                        connection.call(method, body, end)
                except OSError:
                    pass
            time.sleep(1)
            self.close()

    def close(self):
        for connection in self.open:
            connection.close()
        self.open.clear()

    # The attacks.

    def idle_connections(self):
        for _ in self.connections(800):
            pass
        time.sleep(max(0, self.end - time.monotonic()))

    def declared_lengths(self):
        announced = b"\0" + struct.pack(">I", (4 << 20) - 1)
        for method in ("Jobs/Submit", "Jobs/SubmitInPieces", "Workers/ReportInParts", "Tensors/Push"):
            share = Attack(self.port, min(self.end, time.monotonic() + 5))
            share.calls(method, announced, False)

    def large_messages(self):
        body = message(text(1, "# " + "x" * 16_000))
        self.calls("Jobs/Submit", b"\0" + struct.pack(">I", 3 << 20) + body, False, streams=20)

    def unread_answers(self):
        no_window = struct.pack(">HI", 4, 0)
        for method in ("Jobs/List", "Jobs/Logs", "Jobs/Metrics"):
            share = Attack(self.port, min(self.end, time.monotonic() + 5))
            share.calls(method, message(b""), True, settings=no_window)

    def joins(self):
        join = text(1, "flood") + text(2, self.version) + text(3, "none")
        self.calls("Workers/Join", message(join), True, streams=30, connections=10)

    def submits(self):
        job = '[corpus]\ntrain = "/dev/zero"\n'
        self.calls("Jobs/Submit", message(text(1, job) + text(2, self.version)), True, streams=30, connections=10)

    def nonsense(self):
        self.calls("Jobs/None", os.urandom(200), True, streams=30)


ATTACKS = ["idle_connections", "declared_lengths", "large_messages", "unread_answers", "joins", "submits", "nonsense"]


class Coordinator:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        port_file = folder / "port"
        self.log = open(folder / "coordinator.log", "wb")
        self.process = subprocess.Popen(
            [program, "coordinator", "--listen", "127.0.0.1:0", "--data-dir", folder / "data", "--port-file", port_file],
            stderr=self.log,
        )
        while not port_file.exists() or not port_file.read_text().strip():
            assert self.process.poll() is None, (folder / "coordinator.log").read_text()
            time.sleep(0.05)
        self.port = int(port_file.read_text())
        self.url = f"http://127.0.0.1:{self.port}"

    def command(self, *arguments):
        environment = {**os.environ, "UNISONO_COORDINATOR": self.url}
        done = subprocess.run([self.program, *arguments], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def figures(self):
        """Resident memory in MB, threads, descriptors and files."""
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines() if ":" in line
        )
        files = sum(len(names) for _, _, names in os.walk(self.folder / "data"))
        return {
            "memory_mb": int(status["VmRSS"].split()[0]) // 1024,
            "threads": int(status["Threads"]),
            "descriptors": len(os.listdir(f"/proc/{self.process.pid}/fd")),
            "files": files,
        }

    def steps(self, job):
        """The number of steps so far, from the file: no call is needed."""
        with open(self.folder / "data" / "jobs" / job / "metrics.jsonl", "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().split(b"\n")
        return json.loads(lines[-2])["step"] if len(lines) > 1 else 0

    def rate(self, job, seconds):
        before, began = self.steps(job), time.monotonic()
        time.sleep(seconds)
        return (self.steps(job) - before) / (time.monotonic() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--only", default=",".join(ATTACKS))
    arguments = parser.parse_args()
    program = arguments.program.resolve()
    names = arguments.only.split(",")
    Attack.version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    folder = Path(tempfile.mkdtemp(prefix="unisono-attacks-"))
    processes = []
    try:
        coordinator = Coordinator(program, folder)
        processes.append(coordinator.process)
        (folder / "job.toml").write_text(JOB)
        job = coordinator.command("submit", "--no-wait", str(folder / "job.toml")).split()[0]
        worker = [program, "worker", "--coordinator", coordinator.url, "--cache-dir", folder / "cache", "--threads", "1"]
        processes.append(subprocess.Popen(worker, stderr=open(folder / "worker.log", "wb")))
        metrics = folder / "data" / "jobs" / job / "metrics.jsonl"
        while not metrics.exists() or metrics.stat().st_size == 0:
            time.sleep(0.1)
        time.sleep(3)
        print(f"{'':20} {'steps/s':>8} {'memory':>8} {'threads':>8} {'open':>6} {'files':>6} {'operator':>9}")

        def show(name, rate, figures, operator):
            memory, threads = f"{figures['memory_mb']} MB", figures["threads"]
            told = f"{operator * 1000:.0f} ms" if operator is not None else "refused"
            print(f"{name:20} {rate:8.1f} {memory:>8} {threads:8} {figures['descriptors']:6} {figures['files']:6} {told:>9}", flush=True)

        def operator():
            """How long a person waits for the list of jobs."""
            began = time.monotonic()
            try:
                coordinator.command("jobs")
            except (AssertionError, subprocess.TimeoutExpired):
                return None
            return time.monotonic() - began

        show("before", coordinator.rate(job, 5), coordinator.figures(), operator())
        seconds = 60 * arguments.minutes / len(names)
        for name in names:
            attack = Attack(coordinator.port, time.monotonic() + seconds)
            thread = threading.Thread(target=getattr(attack, name), daemon=True)
            thread.start()
            time.sleep(min(2, seconds / 4))
            rate = coordinator.rate(job, max(1, seconds - 4))
            show(name, rate, coordinator.figures(), operator())
            thread.join()
            attack.close()
            assert coordinator.process.poll() is None, "the coordinator is gone"
        time.sleep(10)
        show("after", coordinator.rate(job, 5), coordinator.figures(), operator())
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

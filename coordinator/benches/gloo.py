"""`unisono bench exchange` beside PyTorch's way from the last gradient to new weights: processes that
all-reduce one flat tensor by gloo, clip it by its norm and apply Adam (fused), each with its share of
the cores. Both run by turns; prints medians in milliseconds and their ratio, and what the coordinator's
memory comes to beside what it must hold.

    python3 coordinator/benches/gloo.py target/release/unisono [turns] [MILLIONS,... [WORKERS,...]]

A second program, for instance another version of unisono, may stand after the first, with a comma
between them.
"""

import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import time

REPEATS = 7
WARM_UP = 2


def member(rank, workers, elements, port, results):
    import torch
    import torch.distributed as distributed

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // workers))
    torch.manual_seed(rank)
    distributed.init_process_group("gloo", rank=rank, world_size=workers)
    weights = torch.nn.Parameter(torch.randn(elements))
    weights.grad = torch.randn(elements)
    gradient = weights.grad.clone()
    adam = torch.optim.Adam([weights], lr=1e-3, fused=True)
    times = []
    for _ in range(WARM_UP + REPEATS):
        weights.grad.copy_(gradient)
        distributed.barrier()
        began = time.monotonic()
        distributed.all_reduce(weights.grad)
        weights.grad.div_(workers)
        torch.nn.utils.clip_grad_norm_([weights], 5.0)
        adam.step()
        times.append((began, time.monotonic()))
    results.put(times[WARM_UP:])
    distributed.barrier()
    distributed.destroy_process_group()


def torch_exchange(elements, workers):
    """Median seconds from the last process that is ready to the last that has new weights."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    arguments = (workers, elements, port, results)
    processes = [context.Process(target=member, args=(rank, *arguments)) for rank in range(workers)]
    for process in processes:
        process.start()
    times = [results.get() for _ in processes]
    for process in processes:
        process.join()
    rounds = zip(*times)
    return statistics.median(max(end for _, end in one) - max(began for began, _ in one) for one in rounds)


def unisono_exchange(program, elements, workers, wire):
    arguments = [program, "bench", "exchange", "--parameters", str(elements), "--workers", str(workers)]
    arguments += ["--repeats", str(REPEATS), "-o", "json"]
    arguments += ["--wire", wire] if wire != "f32" else []
    return json.loads(subprocess.run(arguments, check=True, capture_output=True).stdout)


def numbers(place, default):
    return [int(number) for number in sys.argv[place].split(",")] if len(sys.argv) > place else default


def main():
    programs = sys.argv[1].split(",")
    turns = numbers(2, [3])[0]
    print("million  workers  wire   torch ms     ms  ratio   push  update   pull   peak MB  floor MB")
    for millions in numbers(3, [1, 10, 50]):
        for workers in numbers(4, [2, 4, 8]):
            ways = [(program, wire) for program in programs for wire in ("f32", "bf16")]
            theirs, ours = [], {way: [] for way in ways}
            for _ in range(turns):
                theirs.append(torch_exchange(millions * 10**6, workers))
                for way in ways:
                    ours[way].append(unisono_exchange(way[0], millions * 10**6, workers, way[1]))
            torch = statistics.median(theirs)
            for (_, wire), figures in ours.items():
                median = {key: statistics.median(one[key] for one in figures) for key in figures[0] if key != "wire"}
                times = [1e3 * median[key] for key in ("sync_s", "push_s", "reduce_update_s", "pull_s")]
                sizes = [median[key] / 1e6 for key in ("coordinator_peak_bytes", "coordinator_floor_bytes")]
                print(
                    f"{millions:7}  {workers:7}  {wire:5} {1e3 * torch:9.1f} {times[0]:6.1f} {times[0] / 1e3 / torch:6.2f}"
                    f" {times[1]:6.1f} {times[2]:7.1f} {times[3]:6.1f} {sizes[0]:9.0f} {sizes[1]:9.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

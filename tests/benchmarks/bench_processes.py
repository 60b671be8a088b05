"""Two training processes with one core each (gloo) beside one process with two cores, same global batch.

    python tests/benchmarks/bench_processes.py [PHOTOS] --markdown docs/speed.md

Both train the default preset on ready tensors; the two take turns. Needs two cores that nothing else uses.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench_training import PHOTOS, batches, start
from outputs import add_outputs, leave

from defusion_cli.allocator import keep_freed_memory
from defusion_cli.training.launch import join_cluster

MOST_LOST = 0.15
THREADS = {"one process, two threads": 2, "two processes, one thread each": 1}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def train(photos: Path, steps: int) -> None:
    """The part of one process: train, and print the median seconds of a step on rank zero."""
    keep_freed_memory()
    with join_cluster() as rank:
        training, batch, taken = start(photos, rank), next(batches(photos, 1, rank)), []
        for step in range(steps + 2):
            begin = time.perf_counter()
            training.train_step(batch)
            if step >= 2:
                taken.append(time.perf_counter() - begin)
        if rank.is_main:
            print(statistics.median(taken))


def run(photos: Path, steps: int, threads: int) -> float:
    """Median seconds of a step: one process with two threads, or two with one."""
    launcher = TORCHRUN if threads == 1 else ()
    command = [sys.executable, *launcher, __file__, str(photos), "--steps", str(steps), "--one"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def table(result: dict[str, float]) -> str:
    """Markdown."""
    (one, slow), (two, fast) = result.items()
    lines = ["| | s a step |", "|---|---|", f"| {one} | {slow:.3f} |", f"| {two} | {fast:.3f} |"]
    lines.append(f"\nA step of two processes takes {fast / slow - 1:+.0%}; at most {MOST_LOST:+.0%} is asked for.")
    return "\n".join(lines)


def main() -> int:
    """Print the table; exit with 1 if two processes lose too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", default=PHOTOS)
    parser.add_argument("--steps", type=int, default=10, help="steps a turn, default 10")
    parser.add_argument("--turns", type=int, default=3, help="turns, default 3; the least time counts")
    parser.add_argument("--one", action="store_true", help="be one of the processes that train")
    add_outputs(parser)
    arguments = parser.parse_args()
    if arguments.one:
        train(arguments.photos, arguments.steps)
        return 0
    turns = [
        {name: run(arguments.photos, arguments.steps, threads) for name, threads in THREADS.items()}
        for _ in range(arguments.turns)
    ]
    result = {name: min(turn[name] for turn in turns) for name in THREADS}
    leave(arguments, "Two training processes", table(result), {"seconds_a_step": result})
    one, two = result.values()
    return int(two > (1 + MOST_LOST) * one)


if __name__ == "__main__":
    sys.exit(main())

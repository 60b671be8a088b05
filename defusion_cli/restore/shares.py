"""A folder that several processes restore side by side, each a share of its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from defusion_cli.errors import DefusionError, UsageError
from defusion_cli.interrupt import patient_interrupt
from defusion_cli.restore.plan import Job

SHARE = "DEFUSION_SHARE"
"""The environment variable that tells a process its share, as in ``3/8``."""

_LOOK_EVERY_S = 0.2


class Share(NamedTuple):
    """The number of a process, from 1, and how many there are in all."""

    number: int = 1
    total: int = 1

    def of(self, jobs: Sequence[Job]) -> list[Job]:
        """What falls to this process: decided by the names, so that files that come or go meanwhile change nothing."""
        if self.total == 1:
            return list(jobs)
        return [job for job in jobs if _number(job.name) % self.total == self.number - 1]


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest())


def own_share() -> Share:
    """The share of this process; all, where nobody says otherwise.

    Raises
    ------
    UsageError
        If what is said cannot be understood.
    """
    text = os.environ.get(SHARE, "1/1")
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match and 1 <= int(match[1]) <= int(match[2]):
        return Share(int(match[1]), int(match[2]))
    raise UsageError(f"{SHARE} cannot be understood.", found=text, accepted="3/8: the third of eight shares")


def run_shares(count: int, arguments: Sequence[str]) -> None:
    """Run ``defusion ARGUMENTS`` in `count` processes, each with its share and its GPU, and wait for all.

    Raises
    ------
    UsageError
        If there are fewer GPUs.
    DefusionError
        If a process does not come to its end, or with the exit code of pictures that failed.
    """
    import torch

    visible = torch.cuda.device_count()
    if torch.cuda.is_available() and count > visible:
        raise UsageError("There are fewer GPUs than asked for.", found=str(visible), fix=f"--gpus {visible}")
    with patient_interrupt(patient_on_sigterm=True) as stop, _started(count, arguments) as processes:
        told = False
        while any(process.poll() is None for process in processes):
            if stop.terminated and not told:  # Ctrl-C reaches them without us
                for process in processes:
                    process.terminate()
                told = True
            with contextlib.suppress(subprocess.TimeoutExpired):
                next(process for process in processes if process.returncode is None).wait(_LOOK_EVERY_S)
        codes = [process.returncode for process in processes]
    stop.raise_if_asked()
    if any(codes):
        failed = DefusionError(
            f"{sum(map(bool, codes))} of {count} processes could not do all of their share.",
            found=f"exit codes {', '.join(map(str, codes))}; the reasons are above",
            fix="run the same command again: what is finished is skipped",
        )
        failed.exit_code = max(code if code > 0 else 1 for code in codes if code)
        raise failed


@contextlib.contextmanager
def _started(count: int, arguments: Sequence[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes; those that are left when this is left, for whatever reason, are ended."""
    command = [sys.executable, "-m", "defusion_cli", *arguments]
    cores = str(max(1, (os.cpu_count() or 1) // count))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(count):
            # RANK: only the first of them shows its progress.
            own = {SHARE: f"{number + 1}/{count}", "RANK": str(number), "LOCAL_RANK": str(number)}
            processes.append(subprocess.Popen(command, env={"OMP_NUM_THREADS": cores, **os.environ, **own}))
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            process.wait()

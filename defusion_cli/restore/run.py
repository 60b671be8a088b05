"""A folder of photographs through the model: reading ahead, writing behind, going on where the last run stopped."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from defusion_cli.errors import DataError, DefusionError
from defusion_cli.files import write_atomically
from defusion_cli.images import Picture, Pixels, encode_image, read_image
from defusion_cli.restore.ledger import Ledger
from defusion_cli.restore.plan import Job

_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""The next file would fail likewise."""


@dataclass(frozen=True)
class Outcome:
    """What became of one photograph: ``restored``, ``skipped`` (it was done before) or ``failed``, and why."""

    job: Job
    state: str
    seconds: float = 0.0
    """Of computing; 0 if it never came to that."""
    size: tuple[int, int] | None = None
    """Width and height in pixels, of a restored one."""
    problem: DefusionError | None = None


def restore_files(
    jobs: Sequence[Job],
    restore: Callable[[Pixels], Pixels],
    ledger: Ledger | None,
    overwrite: bool = False,
    watch: Callable[[Outcome], None] = lambda outcome: None,
    facts: Mapping[str, Any] | None = None,
) -> list[Outcome]:
    """Restore every file that is not finished; one that cannot be read or written is reported, the rest are done.

    While one picture is computed, the next is read and the last is written. When interrupted, what is computed is
    still written.

    Parameters
    ----------
    restore
        From pixels to pixels.
    ledger
        Record of the output folder; None keeps none.
    overwrite
        Restore finished files again, and replace files that are not ours.
    watch
        Called with every outcome, in the order of `jobs`.
    facts
        Noted in the ledger with each file.

    Raises
    ------
    OSError
        If the disk is full or read-only: no other file would fare better.
    """
    outcomes: list[Outcome] = []

    def report(outcome: Outcome) -> None:
        outcomes.append(outcome)
        watch(outcome)

    with ThreadPoolExecutor(max_workers=2) as pool:
        reading = [pool.submit(_open, job, ledger, overwrite) for job in jobs[:1]]
        writing: Future[Outcome] | None = None
        for number, job in enumerate(jobs):
            opened = reading.pop().result()
            reading += [pool.submit(_open, following, ledger, overwrite) for following in jobs[number + 1 : number + 2]]
            made = opened if isinstance(opened, Outcome) else _compute(job, opened, restore)
            if writing is not None:
                report(writing.result())
            writing = pool.submit(_store, made, ledger, facts or {})
        if writing is not None:
            report(writing.result())
    return outcomes


@dataclass(frozen=True)
class _Restored:
    job: Job
    picture: Picture
    pixels: Pixels
    seconds: float


def _open(job: Job, ledger: Ledger | None, overwrite: bool) -> Picture | Outcome:
    """The decoded source, or the outcome if there is nothing to compute."""
    try:
        if not overwrite and job.target.exists():
            if ledger and ledger.is_finished(job):
                return Outcome(job, "skipped")
            if not (ledger and ledger.owns(job)):
                raise DataError(f"{job.target} is there already.", fix="add --overwrite, or name another output")
        return read_image(job.source)
    except DefusionError as error:
        return Outcome(job, "failed", problem=error)
    except OSError as error:
        return Outcome(job, "failed", problem=_problem(error, job))


def _compute(job: Job, picture: Picture, restore: Callable[[Pixels], Pixels]) -> _Restored | Outcome:
    start = time.perf_counter()
    try:
        pixels = restore(picture.pixels)
    except (MemoryError, torch.OutOfMemoryError):
        problem = DataError(
            f"The memory does not suffice for {job.source}.", fix="add --tile 256, or close other programs"
        )
        return Outcome(job, "failed", problem=problem)
    return _Restored(job, picture, pixels, time.perf_counter() - start)


def _store(made: _Restored | Outcome, ledger: Ledger | None, facts: Mapping[str, Any]) -> Outcome:
    if isinstance(made, Outcome):
        return made
    job, seconds = made.job, made.seconds
    try:
        encoded = encode_image(job.target, made.pixels, made.picture)
        if ledger:
            ledger.add(job, encoded, {**facts, "seconds": round(seconds, 3)})
        write_atomically(job.target, encoded)
    except DefusionError as error:
        return Outcome(job, "failed", seconds, problem=error)
    except OSError as error:
        if error.errno in _HOPELESS:
            raise
        return Outcome(job, "failed", seconds, problem=_problem(error, job))
    return Outcome(job, "restored", seconds, made.pixels.shape[1::-1])


def _problem(error: OSError, job: Job) -> DataError:
    return DataError(f"{job.target} cannot be written: {error.strerror or error}.", fix=f"ls -ld {job.target.parent}")

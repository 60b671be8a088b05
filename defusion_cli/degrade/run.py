"""Doing what a plan says, on one core or many, with the same bytes either way."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from defusion_cli.allocator import keep_freed_memory
from defusion_cli.degrade.manifest import Entry, Ledger, versions
from defusion_cli.degrade.plan import Item, Plan, Task
from defusion_cli.errors import DataError, DefusionError
from defusion_cli.files import remove_leftovers, require_regular, require_writable, write_atomically
from defusion_cli.images import Picture, decode_image, encode_image
from defusion_cli.interrupt import Stop, leave_signals_to_parent, patient_interrupt
from defusion_cli.plugins import apply_recipe, installed_plugins
from defusion_cli.plugins.compose import Plugins


@dataclass(frozen=True)
class Outcome:
    """What became of one picture.

    Attributes
    ----------
    state
        ``written``, ``kept`` (it was there already), ``different`` (written, but not the bytes that the manifest
        promised) or ``failed``.
    entry
        For the manifest; None if the picture does not exist.
    problem
        Why it failed or differs.
    """

    output: str
    state: str
    entry: Entry | None = None
    problem: DefusionError | None = None


@dataclass
class Report:
    """Counts of a run by `Outcome.state`, the manifest it left, and the exit code it deserves."""

    counts: dict[str, int] = field(default_factory=lambda: {"written": 0, "kept": 0, "different": 0, "failed": 0})
    manifest: Path | None = None
    exit_code: int = 0


def run_tasks(
    plan: Plan,
    out: Path,
    jobs: int = 1,
    overwrite: bool = False,
    watch: Callable[[Outcome], None] = lambda outcome: None,
) -> Report:
    """Carry out `plan`, write the manifest, and tell what happened.

    A picture that cannot be read, or on which a plugin fails, is reported and the others are done. Interrupted,
    the run finishes the pictures in hand, writes the manifest and raises `KeyboardInterrupt`.

    Parameters
    ----------
    jobs
        Processes.
    overwrite
        Make pictures again that are there.
    watch
        Called with every outcome as it comes.

    Raises
    ------
    OSError
        If the output folder cannot be written.
    """
    ledger, report = Ledger(out), Report()
    remove_leftovers(out)

    def take(outcomes: list[Outcome]) -> None:
        ledger.add([outcome.entry for outcome in outcomes if outcome.entry])
        for outcome in outcomes:
            report.counts[outcome.state] += 1
            if outcome.problem:
                report.exit_code = max(report.exit_code, outcome.problem.exit_code)
            watch(outcome)

    work = ((task, out, [ledger.get(item.output) for item in task.items], overwrite) for task in plan)
    try:
        with patient_interrupt() as stop:
            if jobs == 1 or len(plan) == 1:
                keep_freed_memory()
                for job in work:
                    take(_work(job))
                    stop.raise_if_asked()
            else:
                _run_pool(work, min(jobs, len(plan)), take, stop)
    finally:
        report.manifest = ledger.close()
    return report


_Job = tuple[Task, Path, Sequence["Entry | None"], bool]


def _run_pool(work: Iterator[_Job], jobs: int, take: Callable[[list[Outcome]], None], stop: Stop) -> None:
    # Spawned, not forked: a forked child inherits locks that OpenCV's threads may hold.
    context = multiprocessing.get_context("spawn")
    running: set[Future[list[Outcome]]] = set()
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker) as pool:
        try:
            while not stop.asked:
                running.update(pool.submit(_work, job) for job in itertools.islice(work, 3 * jobs - len(running)))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    take(future.result())
            for future in [future for future in running if not future.cancel()]:
                take(future.result())
        except BrokenProcessPool:
            raise DefusionError(
                "A worker process died, perhaps for lack of memory.", fix="run the same command again with --jobs 1"
            ) from None
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    stop.raise_if_asked()


def _start_worker() -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    leave_signals_to_parent()  # which lets workers finish their picture
    cv2.setNumThreads(1)
    keep_freed_memory()


def _leave_with_parent() -> None:
    """A killed parent closes no queue, and this process would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: _Job) -> list[Outcome]:
    return run_task(*job, installed_plugins())


def run_task(task: Task, out: Path, known: Sequence[Entry | None], overwrite: bool, plugins: Plugins) -> list[Outcome]:
    """Read one picture and write everything that is made of it.

    Parameters
    ----------
    known
        The manifest's entry for each item, as far as there is one: what was made before is kept.
    """
    try:
        require_regular(task.source)
        data = task.source.read_bytes()
    except OSError as error:
        problem = DataError(f"{task.source} cannot be read: {error.strerror}.")
        return [Outcome(item.output, "failed", problem=problem) for item in task.items]
    digest = _sha256(data)
    picture: Picture | None = None
    outcomes = []
    for item, entry in zip(task.items, known, strict=True):
        path = out / item.output
        try:
            _check_source(task, item, digest)
            there = path.exists() and not overwrite
            if there and entry and _is_current(path, item, entry, digest):
                outcomes.append(Outcome(item.output, "kept", entry))
                continue
            if not there:
                require_writable(path.parent)  # said before anything is computed
            picture = picture or decode_image(data, task.source)
            pixels = apply_recipe(picture.pixels, item.recipe, plugins)
            made = encode_image(path, pixels, picture)
            if there and path.read_bytes() != made:
                fix = "add --overwrite, or name another output folder"
                raise DataError(f"{path} exists and is not what these options give.", fix=fix)
        except DefusionError as error:
            outcomes.append(Outcome(item.output, "failed", problem=error))
            continue
        except MemoryError:
            problem = DataError(f"{task.source} is too large for the free memory.", fix="--jobs 1")
            outcomes.append(Outcome(item.output, "failed", problem=problem))
            continue
        if not there:
            write_atomically(path, made)
        fresh = Entry(task.name, digest, item.output, _sha256(made), item.recipe.to_json(), versions())
        outcomes.append(Outcome(item.output, "kept", fresh) if there else _judge(item, fresh))
    return outcomes


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check_source(task: Task, item: Item, digest: str) -> None:
    if item.expected and item.expected.source_sha256 != digest:
        raise DataError(f"{task.source} is not the picture that the manifest was made from: its bytes differ.")


def _is_current(path: Path, item: Item, entry: Entry, digest: str) -> bool:
    """True if the file at `path` is known to be what this run would write."""
    wanted = (item.recipe.to_json(), digest)
    return (entry.recipe, entry.source_sha256) == wanted and entry.output_sha256 == _sha256(path.read_bytes())


def _judge(item: Item, fresh: Entry) -> Outcome:
    expected = item.expected
    if expected is None or expected.output_sha256 == fresh.output_sha256:
        return Outcome(item.output, "written", fresh)
    changed = [f"{k} {v}" for k, v in expected.versions.items() if fresh.versions.get(k) != v]
    problem = DataError(
        f"{item.output} does not have the bytes that the manifest promises.",
        found=f"made here with {', '.join(f'{k} {v}' for k, v in fresh.versions.items())}",
        accepted=f"made there with {', '.join(changed) or 'the same versions'}",
    )
    return Outcome(item.output, "different", fresh, problem)

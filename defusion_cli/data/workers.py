"""Data-loader processes: they leave signals to the training, and their errors and their death end it with a reason."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.util import Finalize
from typing import Any

import torch
from torch.utils.data import Dataset

from defusion_cli.errors import DefusionError, one_line
from defusion_cli.interrupt import leave_signals_to_parent

_DEATH, _WAIT_S = "DataLoader worker", 5.0
_LAST = -100
_HOLDS_SIGTERM = hasattr(signal, "sigwaitinfo")
"""Not on macOS: there a SIGTERM to all processes of a job ends the loaders, too."""


def loading(workers: int, collate: Callable[[list[Any]], Any]) -> dict[str, Any]:
    """What every loader of ours is made with, for samples that are `Explained` and batches for `raise_explained`.

    Parameters
    ----------
    workers
        Processes; 0 computes samples in this one.
    collate
        Makes a batch of samples.
    """
    return {
        "num_workers": workers,
        "worker_init_fn": _start_worker,
        "generator": _no_seed(),
        "collate_fn": partial(_collate_explained, collate),
        "prefetch_factor": 4 if workers else None,
        # A forked child inherits the locks of OpenCV's and OpenMP's thread pools in whatever state they are, and hangs.
        "multiprocessing_context": "spawn" if workers else None,
    }


def _start_worker(number: int) -> None:
    """For ``worker_init_fn``: the training alone decides what a signal means.

    Ctrl-C reaches every process of the terminal, and schedulers send SIGTERM to every process of a job. A loader that
    obeyed would end the training before it had saved anything; it leaves when the training says so or ends.
    """
    leave_signals_to_parent()
    if _HOLDS_SIGTERM:
        threading.Thread(target=_leave_when_the_training_says_so, daemon=True).start()
    # torch does not wait for the thread that sends batches. If that is in C++ when the interpreter is taken down, the
    # process aborts, and the training that waits for it prints a traceback: leave before, when all else is done.
    Finalize(None, os._exit, args=(0,), exitpriority=_LAST)


def _leave_when_the_training_says_so() -> None:
    """Python sends SIGTERM to the children that are left when it ends, and waits for them."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


@contextmanager
def _sigterm_held() -> Iterator[None]:
    """Processes that are started here never hear of SIGTERM but by asking for it, not even while they start."""
    if not _HOLDS_SIGTERM:
        yield
        return
    resource_tracker.ensure_running()  # once, or it is started below, and that lets SIGTERM in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _no_seed() -> torch.Generator:
    """For ``generator``: a loader draws a number for its processes, which use none, from the global generator.

    The generator's state is part of a checkpoint: without this, resuming would change it.
    """
    return torch.Generator().manual_seed(0)


class Explained(Dataset[Any]):
    """Samples whose errors are handed over in their place.

    An error that is raised in a process of a loader would reach the person at the screen as torch's traceback of it.
    """

    def __init__(self, samples: Dataset[Any]) -> None:
        self.samples = samples

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.samples[index]
        except DefusionError as error:
            return error


def _collate_explained(collate: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    """The first error among samples of `Explained`, or their batch."""
    return next((item for item in items if isinstance(item, DefusionError)), None) or collate(items)


def raise_explained(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches of a loader made with `loading`; errors are raised here."""
    with _sigterm_held():
        started = iter(batches)
    for batch in started:
        if isinstance(batch, DefusionError):
            raise batch
        yield batch


@contextmanager
def deaths_explained() -> Iterator[None]:
    """Around everything that is done while a loader is at work.

    torch tells that a process of a loader died from a signal handler: wherever the training is, not only where it asks
    for the next batch. A batch that was on its way from a process that is just dying ends in the middle instead, before
    torch has seen the death.

    Raises
    ------
    DefusionError
        If one dies. torch notices within seconds.
    """
    try:
        yield
    except RuntimeError as error:
        if _DEATH not in str(error):
            raise
        raise _death(str(error)) from error
    except (EOFError, ConnectionError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise _death(_word_of_torch()) from error


def _word_of_torch() -> str:
    """What torch says of the death once the system has told it; said later, it would come out of nowhere."""
    try:
        time.sleep(_WAIT_S)
    except RuntimeError as error:
        return str(error)
    return "a batch that ends in the middle"


def _death(found: str) -> DefusionError:
    return DefusionError(
        "A process that prepares training pictures died.",
        found=one_line(found)[:200],
        accepted="enough memory for each of them; nobody who kills them",
        fix="run the same command again, it goes on from the last checkpoint; with less memory, --set workers=1",
    )

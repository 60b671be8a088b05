"""Data-loader processes: they leave Ctrl-C to the training, and their death ends it with a reason."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from defusion_cli.errors import DefusionError


def start_worker(number: int) -> None:
    """For ``worker_init_fn``: Ctrl-C reaches every process of the terminal, but the training alone decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def no_seed() -> torch.Generator:
    """For ``generator``: a loader draws a number for its processes, which use none, from the global generator.

    The generator's state is part of a checkpoint: without this, resuming would change it.
    """
    return torch.Generator().manual_seed(0)


@contextmanager
def deaths_explained() -> Iterator[None]:
    """Around everything that is done while a loader is at work.

    torch tells that a process of a loader died from a signal handler: wherever the training is, not only where it asks
    for the next batch.

    Raises
    ------
    DefusionError
        If one dies. torch notices within seconds.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DefusionError(
            "A process that prepares training pictures died.",
            found=" ".join(str(error).split())[:200],
            accepted="enough memory for each of them; nobody who kills them",
            fix="run the same command again, it goes on from the last checkpoint; with less memory, --set workers=1",
        ) from error

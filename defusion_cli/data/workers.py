"""Data-loader processes: they leave Ctrl-C to the training, and their death ends it with a reason."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

from defusion_cli.errors import DefusionError

T = TypeVar("T")


def start_worker(number: int) -> None:
    """For ``worker_init_fn``: Ctrl-C reaches every process of the terminal, but the training alone decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def no_seed() -> torch.Generator:
    """For ``generator``: a loader draws a number for its processes, which use none, from the global generator.

    The generator's state is part of a checkpoint: without this, resuming would change it.
    """
    return torch.Generator().manual_seed(0)


def watched(loader: Iterable[T]) -> Iterator[T]:
    """What the loader yields.

    Raises
    ------
    DefusionError
        If one of its processes dies. torch notices within seconds.
    """
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DefusionError(
            "A process that prepares training pictures died.",
            found=" ".join(str(error).split())[:200],
            accepted="enough memory for each of them; nobody who kills them",
            fix="run the same command again, it goes on from the last checkpoint; with less memory, --set workers=1",
        ) from error

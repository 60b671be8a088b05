"""Ctrl-C once: finish the file in hand. Twice: stop now. SIGTERM: stop now, or save first where that is asked for.

A terminal that is closed (SIGHUP) means what SIGTERM means, unless ``nohup`` has it ignored.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM: the system, not a person, wants us to leave."""


class Stop:
    """Whether somebody has asked to stop, and how; and whether all processes of a training do after this step."""

    def __init__(self) -> None:
        self.asked = False
        self.terminated = False
        self.agreed = False

    def raise_if_asked(self) -> None:
        """Raise `KeyboardInterrupt` or `Terminated` if so; called where nothing is half done."""
        if self.asked:
            raise Terminated if self.terminated else KeyboardInterrupt


@contextmanager
def patient_interrupt(patient_on_sigterm: bool = False) -> Iterator[Stop]:
    """Within this context the first Ctrl-C only sets ``asked``; the second raises `KeyboardInterrupt` as usual.

    SIGTERM raises `Terminated` at once, or sets ``asked``, too, if `patient_on_sigterm`. Off the main thread, where
    Python delivers no signals, nothing changes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    def on_terminate(number: int, frame: FrameType | None) -> None:
        if not patient_on_sigterm:
            raise Terminated
        stop.asked = stop.terminated = True

    before = signal.signal(signal.SIGINT, on_interrupt), signal.signal(signal.SIGTERM, on_terminate)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before[0])
        # Where whoever comes next would raise again, a second SIGTERM would only disturb the leaving.
        leaving = stop.terminated and callable(before[1])
        signal.signal(signal.SIGTERM, signal.SIG_IGN if leaving else before[1])


@contextmanager
def leaving_in_order() -> Iterator[None]:
    """Within this context SIGTERM raises `Terminated`, once: files are closed and temporary ones removed on the way.

    SIGHUP is passed on as SIGTERM, to whoever hears that.

    After it has, and until the process has ended, another SIGTERM is ignored: some send it twice, and the second would
    kill an interpreter that is being taken down, with another exit code than the one that was decided on.
    """

    def on_terminate(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    def on_hangup(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, on_terminate)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, on_hangup)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def leave_signals_to_parent() -> None:
    """For workers: Ctrl-C and a closed terminal reach every process, and the parent alone decides what they mean."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

"""Ctrl-C once: finish the file in hand. Twice: stop now."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether the user has asked to stop."""

    def __init__(self) -> None:
        self.asked = False

    def raise_if_asked(self) -> None:
        """Raise `KeyboardInterrupt` if so; called where nothing is half done."""
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def patient_interrupt() -> Iterator[Stop]:
    """Within this context the first Ctrl-C only sets ``asked``; the second raises `KeyboardInterrupt` as usual.

    Off the main thread, where Python delivers no signals, nothing changes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)

"""A plugin is a stranger's code: one that never comes back is given up, so that the next picture gets its turn."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE_S = 60.0
PATIENCE_PER_MEGAPIXEL_S = 30.0
"""A built-in degradation takes a hundredth of this."""


class Hangs(Exception):
    """Raised inside a plugin whose time is over."""


@contextmanager
def patience(pixels: int) -> Iterator[None]:
    """Raise `Hangs` inside this context when a picture of so many pixels takes unreasonably long.

    Only in the main thread, where signals arrive, and only between two steps of Python: a plugin that is stuck inside
    a library of its own is ended by Ctrl-C, twice. Where there are no interval timers (Windows), nothing happens.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    limit = PATIENCE_S + PATIENCE_PER_MEGAPIXEL_S * pixels / 1e6

    def on_alarm(number: int, frame: FrameType | None) -> None:
        raise Hangs(f"no result after {limit:.0f} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    # Again every second: a plugin that swallows every exception in a loop does not get away with it once.
    signal.setitimer(signal.ITIMER_REAL, limit, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

from __future__ import annotations

import os
import signal
import threading

import pytest

from defusion_cli.interrupt import patient_interrupt


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_time_is_noted_and_the_second_stops():
    before = signal.getsignal(signal.SIGINT)
    with patient_interrupt() as stop:
        stop.raise_if_asked()
        interrupt()
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            stop.raise_if_asked()
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_are_left_alone():
    def work() -> None:
        with patient_interrupt() as stop:
            results.append(stop.asked)

    results: list[bool] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [False]

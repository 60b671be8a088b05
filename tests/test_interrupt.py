from __future__ import annotations

import os
import signal
import subprocess
import sys
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


_LEAVES_AT_EXIT = """
import atexit, os, signal, sys
from defusion_cli.interrupt import {context}, Terminated, leaving_in_order

atexit.register(os.kill, os.getpid(), signal.SIGTERM)
try:
    with leaving_in_order(), {context}({arguments}) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        stop.raise_if_asked()
except Terminated:
    sys.exit(143)
"""


_HANGS_UP = """
import os, signal
from defusion_cli.interrupt import Terminated, leaving_in_order

try:
    with leaving_in_order():
        os.kill(os.getpid(), signal.SIGHUP)
        print("went on")
except Terminated:
    print("left")
"""


def _unprotected() -> None:
    """The tests may themselves have been started with nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")
@pytest.mark.parametrize(("prefix", "said"), [([], "left"), (["nohup"], "went on")])
def test_a_closed_terminal_ends_what_nohup_does_not_protect(prefix, said):
    command = [*prefix, sys.executable, "-c", _HANGS_UP]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, preexec_fn=_unprotected
    )
    assert (done.returncode, done.stdout) == (0, f"{said}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to be caught")
@pytest.mark.parametrize(("context", "arguments"), [("leaving_in_order", ""), ("patient_interrupt", "True")])
def test_a_second_sigterm_while_python_ends_changes_nothing(context, arguments):
    code = _LEAVES_AT_EXIT.format(context=context, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (143, "")

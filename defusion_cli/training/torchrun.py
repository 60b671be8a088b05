"""torchrun without its tracebacks: a process that failed has said why, and a signal is no failure.

It also hears SIGTERM only once. A scheduler sends it to all processes of a job, the one that started torchrun passes it
on as well, and at the second torchrun would kill its processes while they write their checkpoint.

python -m defusion_cli.training.torchrun --nproc-per-node=2 -m defusion_cli train …
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

from torch.distributed.elastic.multiprocessing import api
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def hear_sigterm_once() -> None:
    """Let torchrun's own handler, which it installs when it starts its processes, see the first SIGTERM only."""
    handle = getattr(api, "_terminate_process_handler", None)
    if handle is None:  # not a documented name: another release may have another
        return

    def handle_once(signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGTERM:
            signal.signal(signum, signal.SIG_IGN)
        handle(signum, frame)

    api._terminate_process_handler = handle_once


def run() -> int:
    """Exit code of torchrun, with one line about each process that failed, the first one first."""
    hear_sigterm_once()
    try:
        main()
    except SignalException as stop:
        return 128 + int(stop.sigval)
    except ChildFailedError as error:
        for rank, failure in sorted(error.failures.items(), key=lambda item: item[1].timestamp):
            how = f"was killed by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with {failure.exitcode}"
            print(f"Process {rank} (pid: {failure.pid}) {how}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run())

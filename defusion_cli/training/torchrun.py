"""torchrun without its tracebacks: a process that failed has said why, and a signal is no failure.

python -m defusion_cli.training.torchrun --nproc-per-node=2 -m defusion_cli train …
"""

from __future__ import annotations

import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def run() -> int:
    """Exit code of torchrun, with one line about each process that failed, the first one first."""
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

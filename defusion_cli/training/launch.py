"""One process or many: torchrun starts the processes, `torch.distributed` joins them; nothing home-made."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist

from defusion_cli.errors import DefusionError, UsageError, one_line
from defusion_cli.interrupt import Stop, patient_interrupt

_LOOK_EVERY_S = 0.5
_SAVE_WITHIN_S = 600


@dataclass(frozen=True)
class Cluster:
    """How many processes train together, and where they meet.

    Attributes
    ----------
    gpus
        Processes per node, one GPU each (CPU processes where there is no GPU); 0 means this process alone.
    nodes
        Machines.
    rdzv_endpoint
        ``host:port`` of the first machine, needed when there are several.
    max_restarts
        How often torchrun starts all processes again, from the last checkpoint, after one has failed.
    """

    gpus: int = 0
    nodes: int = 1
    rdzv_endpoint: str | None = None
    max_restarts: int = 0

    def __post_init__(self) -> None:
        if self.nodes > 1 and not self.rdzv_endpoint:
            raise UsageError(
                "Several nodes need a place to meet.", fix="--rdzv-endpoint HOST:29500, the same on every node"
            )
        if self.nodes > 1 and not self.gpus:
            raise UsageError("--nodes goes with --gpus.", fix="--gpus 8, the number of GPUs in each node")
        if self.max_restarts and not self.gpus:
            raise UsageError("--max-restarts is torchrun's, which --gpus starts.", fix="--gpus 1")

    @property
    def processes(self) -> int:
        """All processes of the run."""
        return max(self.gpus, 1) * self.nodes


def needs_launch(cluster: Cluster) -> bool:
    """True in the process the user started, false in the workers that torchrun starts."""
    return cluster.gpus > 0 and "TORCHELASTIC_RUN_ID" not in os.environ


def torchrun_command(cluster: Cluster, arguments: Sequence[str]) -> list[str]:
    """The torchrun command line that runs ``defusion ARGUMENTS`` in every process."""
    command = [sys.executable, "-m", "defusion_cli.training.torchrun", f"--nproc-per-node={cluster.gpus}"]
    command += [f"--max-restarts={cluster.max_restarts}"]
    if cluster.nodes > 1:
        command += [f"--nnodes={cluster.nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={cluster.rdzv_endpoint}"]
    else:
        command += ["--standalone"]
    return [*command, "-m", "defusion_cli", *arguments]


def launch(cluster: Cluster, arguments: Sequence[str] | None = None) -> None:
    """Run this very command line again under torchrun, and wait.

    Raises
    ------
    DefusionError
        If a process fails.
    """
    visible = torch.cuda.device_count()
    if torch.cuda.is_available() and cluster.gpus > visible:
        raise UsageError("There are fewer GPUs than asked for.", found=str(visible), fix=f"--gpus {visible}")
    # A store of its own for every start. torchrun would share one among all, and processes that are started again would
    # find in it where the dead ones listened, and gloo would wait for those.
    environment = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", **os.environ}
    # Processes that are asked to stop finish their step and save; torchrun would kill them after 30 seconds.
    environment.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_SAVE_WITHIN_S))
    if not torch.cuda.is_available():
        # torchrun would give every process one thread; share the cores instead.
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // cluster.gpus)))
    command = torchrun_command(cluster, sys.argv[1:] if arguments is None else arguments)
    with subprocess.Popen(command, env=environment) as torchrun, patient_interrupt(patient_on_sigterm=True) as stop:
        told = False
        while torchrun.poll() is None:
            if stop.terminated and not told:
                torchrun.terminate()  # once: twice, it would leave before its processes; Ctrl-C reaches it without us
                told = True
            with contextlib.suppress(subprocess.TimeoutExpired):
                torchrun.wait(_LOOK_EVERY_S)
        code = torchrun.returncode
    stop.raise_if_asked()
    if code:
        raise DefusionError(
            "Training stopped: one of its processes failed.",
            found=f"torchrun ended with status {code}; the reason is above",
            fix="run the same command again; it goes on from the last checkpoint",
        )


@dataclass(frozen=True)
class Rank:
    """This process among all: its number, how many there are, and its device."""

    index: int
    count: int
    device: torch.device
    parent: int = field(default_factory=os.getppid)
    """Who started this process: torchrun, or a shell."""

    @property
    def is_main(self) -> bool:
        """True for the one that prints and writes."""
        return self.index == 0

    def agree(self, stop: Stop) -> None:
        """Let all processes stop after the same step as soon as one is asked to, or left alone; all have to call.

        Who is asked to after that stops after the next step: the others may have gone on to it.
        """
        if self.count == 1:
            stop.agreed = stop.asked
            return
        if os.getppid() != self.parent:  # torchrun was killed: nobody else would end this process
            stop.asked = stop.terminated = True
        flags = torch.tensor([float(stop.asked), float(stop.terminated)], device=self.device)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        stop.agreed, terminated = (bool(flag) for flag in flags.tolist())
        # Never back to False: a signal may have come in the meantime.
        stop.asked, stop.terminated = stop.agreed or stop.asked, terminated or stop.terminated

    def leave_if_asked(self, stop: Stop) -> None:
        """Raise if all `agree` to stop; all have to call, the main process when it has saved.

        Nobody leaves before: of a torchrun that was not itself asked to stop, the processes that are left have 30
        seconds from the end of the first.
        """
        if not stop.agreed:
            return
        if self.count > 1:
            dist.barrier()
        stop.raise_if_asked()

    def told_by_main(self, number: int) -> int:
        """The number that the main process has; all have to call."""
        if self.count == 1:
            return number
        told = torch.tensor([number], device=self.device)
        dist.broadcast(told, 0)
        return int(told)

    def all_can(self, able: bool) -> bool:
        """Whether all processes are able; all have to call."""
        if self.count == 1:
            return able
        flag = torch.tensor([float(able)], device=self.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MIN)
        return bool(flag)

    def share(self, items: int) -> slice:
        """This rank's part of what all are to share equally.

        Raises
        ------
        UsageError
            If that is not possible.
        """
        if items % self.count:
            raise UsageError(
                f"A batch of {items} cannot be shared by {self.count} processes.",
                fix=f"a batch of {self.count * max(1, items // self.count)}",
            )
        each = items // self.count
        return slice(self.index * each, (self.index + 1) * each)


@contextmanager
def join_cluster() -> Iterator[Rank]:
    """This process's `Rank`; inside torchrun the processes are joined (NCCL on GPUs, gloo on CPUs).

    Raises
    ------
    DefusionError
        If another process dies in the middle of the work.
    """
    on_gpu = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Rank(0, 1, device)
        return
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(minutes=30))
    try:
        yield Rank(dist.get_rank(), dist.get_world_size(), device)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise DefusionError(
            "Another process of this training is gone.",
            found=one_line(str(error))[:200],
            fix="run the same command again; it goes on from the last checkpoint",
        ) from error
    finally:
        dist.destroy_process_group()

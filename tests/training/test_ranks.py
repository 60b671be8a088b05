"""Several processes: they go on from one checkpoint, leave together, and are told when they cannot share the work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from defusion_cli.errors import DataError, DefusionError, UsageError
from defusion_cli.training.checkpoint import resume, save_checkpoint
from defusion_cli.training.diffusion_config import PRESETS
from defusion_cli.training.guard import shortage_explained
from defusion_cli.training.launch import Rank
from defusion_cli.training.setup import diffusion_config

ALONE = Rank(0, 1, torch.device("cpu"))
TOGETHER = """
import os, sys, time
from pathlib import Path
from defusion_cli.errors import DataError
from defusion_cli.interrupt import Stop
from defusion_cli.training.checkpoint import resume
from defusion_cli.training.launch import join_cluster

folder = Path(sys.argv[1])
with join_cluster() as rank:
    def say(*words):
        os.write(1, " ".join(map(str, (*words, "rank", rank.index, chr(10)))).encode())  # in one piece
    def go_on(step, state):
        say("step", step)
    resume(folder / "shared", rank, go_on)
    try:
        resume(folder / str(rank.index), rank, lambda step, state: None)
    except DataError as error:
        say("refused", error.failed)
    say("told", rank.told_by_main(7 + rank.index), rank.all_can(rank.index == 0), rank.all_can(True))
    stop = Stop()
    stop.asked = rank.index == 1
    start = time.monotonic()
    rank.agree(stop)
    if rank.is_main:
        time.sleep(3)  # it saves
    try:
        rank.leave_if_asked(stop)
    except KeyboardInterrupt:
        say("left", time.monotonic() - start >= 2.5)
"""


@pytest.mark.slow
def test_processes_go_on_from_one_checkpoint_and_leave_when_it_is_saved(tmp_path):
    for folder, step in (("shared", 3), ("shared", 5), ("0", 4)):  # rank one has a folder of its own, without any
        save_checkpoint(tmp_path / folder, step, {"x": torch.ones(1)})
    script = tmp_path / "script.py"
    script.write_text(TOGETHER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert f"step 5 rank {rank} \n" in done.stdout and f"told 7 False True rank {rank} \n" in done.stdout
        assert f"left True rank {rank} \n" in done.stdout
    assert "refused Another process cannot read the checkpoints in" in done.stdout
    assert re.search(r"refused The checkpoint .*step-00000004 cannot be read\. rank 1", done.stdout)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(tmp_path, capsys):
    seen: list[int] = []

    def go_on(step: int, state: dict[str, int]) -> None:
        seen.append(state["x"])

    assert not resume(tmp_path, ALONE, go_on)
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"x": step})
    tensors = tmp_path / "step-00000002" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:5])
    assert resume(tmp_path, ALONE, go_on) and seen == [1]
    assert "step-00000002 cannot be read" in capsys.readouterr().err
    state = tmp_path / "step-00000001" / "state.json"
    state.write_text(state.read_text().replace('"x"', '"y"'))
    with pytest.raises(DataError, match="step-00000001 cannot be read") as caught:
        resume(tmp_path, ALONE, go_on)
    assert caught.value.found == "KeyError: 'x'"


@pytest.mark.parametrize("processes", [2, 3, 4, 8])
def test_a_recipe_that_cannot_be_shared_is_refused_with_one_that_can(processes):
    config = replace(PRESETS["default"], coarse_views=30)
    with pytest.raises(UsageError) as caught:
        config.check_shares(processes * 5)
    settings = caught.value.fix.replace("--set ", "").split()
    diffusion_config("default", settings).check_shares(processes * 5)
    PRESETS["paper"].check_shares(2**processes if processes < 4 else processes)
    PRESETS["default"].check_shares(1)


def test_memory_that_runs_short_is_explained():
    with pytest.raises(DefusionError, match="too little memory") as caught, shortage_explained("micro_batch"):
        raise torch.OutOfMemoryError("CUDA out of \x1b[31mmemory.\n Tried to allocate 2 GiB")
    assert "--set micro_batch=" in caught.value.fix
    assert caught.value.found == "CUDA out of [31mmemory. Tried to allocate 2 GiB"
    with pytest.raises(RuntimeError, match="shapes"), shortage_explained("batch"):
        raise RuntimeError("shapes do not fit")

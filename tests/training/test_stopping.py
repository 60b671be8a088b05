"""A training that is stopped leaves a checkpoint; one that loses a process ends with a reason."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_diffusion_recipe import ALONE, TINY, make_run, photos, tokenizer  # noqa: F401
from typer.testing import CliRunner

from defusion_cli.app import app
from defusion_cli.data import workers
from defusion_cli.data.workers import deaths_explained
from defusion_cli.errors import DefusionError, UsageError
from defusion_cli.files import discard_folder, staged_folder
from defusion_cli.interrupt import Stop, Terminated
from defusion_cli.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint, stops_explained
from defusion_cli.training.diffusion import train_diffusion
from defusion_cli.training.diffusion_state import DiffusionTraining
from defusion_cli.training.launch import Cluster, Rank, torchrun_command
from defusion_cli.training.tokenizer_state import TokenizerTraining

CONFIG = replace(TINY, steps=5, validate_every=100, save_every=100)
OPTIONS = [
    "phases=32x8", "steps=2000", "warmup=1", "log_every=1", "save_every=5", "synthesis.view_px=64",
    "synthesis.crops_per_view=2", "instruction_slots=1", "backbone_options.widths=8,8", "backbone_options.blocks=1,1",
    "backbone_options.cross_attention_dim=32", "backbone_options.condition_dim=16",
]  # fmt: skip


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_leaves_a_checkpoint_and_nothing_changes(tmp_path, photos, tokenizer, monkeypatch, number, kind):  # noqa: F811
    train_diffusion(CONFIG, make_run(tmp_path / "whole", photos, tokenizer), ALONE)
    real = DiffusionTraining.train_step

    def step(self, batch):
        if self.step == 2:
            os.kill(os.getpid(), number)
        return real(self, batch)

    monkeypatch.setattr(DiffusionTraining, "train_step", step)
    with pytest.raises(kind) as caught:
        train_diffusion(CONFIG, make_run(tmp_path / "run", photos, tokenizer), ALONE)
    assert type(caught.value) is kind
    assert latest_checkpoint(tmp_path / "run" / "checkpoints").name == "step-00000003"
    assert not (tmp_path / "run" / "model").exists()
    monkeypatch.undo()
    train_diffusion(CONFIG, make_run(tmp_path / "run", photos, tokenizer), ALONE)
    weights = "model/unet/diffusion_pytorch_model.safetensors"
    last = "checkpoints/step-00000005/tensors.safetensors"
    for name in (weights, last):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


TOKENIZER_OPTIONS = [
    "block_out_channels=4,4,8,8,8", "latent_channels=8", "norm_num_groups=2", "discriminator_channels=4", "bf16=false",
    "ground_px=64", "crop_px=32", "steps=2000", "batch=4", "decode_every=2", "checkpoint_every=100", "log_every=1",
]  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("command", ["train", "train-tokenizer"])
def test_what_is_said_of_a_signal_names_the_checkpoint(tmp_path, photos, tokenizer, monkeypatch, command, number, code):  # noqa: F811
    kind = DiffusionTraining if command == "train" else TokenizerTraining
    real = kind.train_step

    def step(self, *batch):
        if self.step >= 2:
            os.kill(os.getpid(), number)
        return real(self, *batch)

    monkeypatch.setattr(kind, "train_step", step)
    options = [*OPTIONS, "workers=0"] if command == "train" else TOKENIZER_OPTIONS
    arguments = [command, "--out", str(tmp_path / "run"), "--plugin", "noise", "--plugin", "haze"]
    arguments += [word for option in options for word in ("--set", option)]
    if command == "train":
        tokenizer.save_pretrained(tmp_path / "tokenizer")
        arguments += ["--data", str(photos), "--tokenizer", str(tmp_path / "tokenizer")]
    done = CliRunner().invoke(app, arguments)
    kept = tmp_path / "run" / "checkpoints" / "step-00000003"
    assert kept.is_dir() and done.exit_code == code, done.stderr
    assert f"stopped: Interrupted. The checkpoint of step 3 is kept: {kept}.\n  fix: run the same" in done.stderr
    monkeypatch.setenv("RANK", "1")
    assert "stopped" not in CliRunner().invoke(app, arguments).stderr


def test_a_stop_before_the_first_checkpoint_promises_nothing(tmp_path):
    with pytest.raises(Terminated, match="There is no checkpoint in"), stops_explained(tmp_path / "checkpoints"):
        raise Terminated


def _start(folder: Path, photos: Path, tokenizer: torch.nn.Module, *extra: str) -> subprocess.Popen[str]:  # noqa: F811
    if not (folder / "tokenizer").exists():
        tokenizer.save_pretrained(folder / "tokenizer")
    options = [word for option in OPTIONS for word in ("--set", option)]
    command = [sys.executable, "-m", "defusion_cli", "train", "--data", str(photos), "--out", str(folder / "run")]
    command += ["--tokenizer", str(folder / "tokenizer"), "--plugin", "noise", *options, *extra]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for name in ("RANK", "TORCHELASTIC_RUN_ID"):
        environment.pop(name, None)
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


def _wait_for_checkpoint(folder: Path, run: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 900
    while latest_checkpoint(folder / "run" / "checkpoints") is None:
        assert run.poll() is None, run.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _children(pid: int) -> dict[int, str]:
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(re.search(r"PPid:\s+(\d+)", (path / "status").read_text())[1])
            words = (path / "cmdline").read_text().replace("\0", " ")
        except (OSError, TypeError):
            continue
        if parent == pid:
            found[int(path.name)] = words
    return found


linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks for processes in /proc")


@linux
@pytest.mark.slow
def test_a_loader_process_that_dies_ends_the_run_with_its_reason(tmp_path, photos, tokenizer):  # noqa: F811
    run = _start(tmp_path, photos, tokenizer, "--set", "workers=1")
    try:
        _wait_for_checkpoint(tmp_path, run)
        (worker,) = [pid for pid, words in _children(run.pid).items() if "spawn_main" in words]
        os.kill(worker, signal.SIGKILL)
        start = time.monotonic()
        _, said = run.communicate(timeout=120)
        assert time.monotonic() - start < 30
    finally:
        os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 1
    assert "A process that prepares training pictures died." in said and "Traceback" not in said


LEFT_BEHIND = """
import numpy
from torch.utils.data import DataLoader
from defusion_cli.data.workers import Explained, loading, raise_explained

if __name__ == "__main__":
    batches = raise_explained(DataLoader(Explained(range(100)), sampler=range(100), **loading(1, numpy.array)))
    assert next(batches) == [0]
    held = batches.gi_frame  # as a traceback that somebody keeps
"""


@pytest.mark.slow
def test_a_loader_that_is_left_behind_does_not_keep_python_from_ending(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(LEFT_BEHIND)
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0 and not ended.stderr


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 7) is killed by a signal."),
        EOFError(),
        ConnectionResetError(104, "…"),
    ],
)
def test_whatever_torch_says_of_a_dead_loader_process_is_explained(monkeypatch, error):
    monkeypatch.setattr(workers, "_WAIT_S", 0.01)
    with pytest.raises(DefusionError, match="A process that prepares training pictures died"), deaths_explained():
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), BrokenPipeError(), ValueError()])
def test_other_errors_are_not_taken_for_the_death_of_a_loader_process(error):
    with pytest.raises(type(error)) as caught, deaths_explained():
        raise error
    assert caught.value is error


@linux
@pytest.mark.slow
def test_a_rank_that_dies_ends_the_run_with_its_reason(tmp_path, photos, tokenizer):  # noqa: F811
    run = _start(tmp_path, photos, tokenizer, "--set", "workers=0", "--gpus", "2")
    try:
        _wait_for_checkpoint(tmp_path, run)
        (torchrun,) = _children(run.pid)
        ranks = _children(torchrun)
        dead = max(ranks)
        os.kill(dead, signal.SIGKILL)
        start = time.monotonic()
        _, said = run.communicate(timeout=120)
        seconds = time.monotonic() - start
        assert run.returncode == 1
        assert "Training stopped: one of its processes failed." in said and "Traceback" not in said
        assert f"(pid: {dead}) was killed by SIGKILL." in said
        assert "Another process of this training is gone." in said and "unexpected" not in said
        assert seconds < 30
        assert not any(Path("/proc", str(rank)).exists() for rank in ranks)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)


@linux
@pytest.mark.slow
def test_a_rank_that_dies_is_started_again_and_sigterm_ends_all(tmp_path, photos, tokenizer):  # noqa: F811
    run = _start(tmp_path, photos, tokenizer, "--set", "workers=0", "--gpus", "2", "--max-restarts", "1")
    try:
        _wait_for_checkpoint(tmp_path, run)
        (torchrun,) = _children(run.pid)
        ranks = set(_children(torchrun))
        assert len(ranks) == 2
        os.kill(max(ranks), signal.SIGKILL)
        before = latest_checkpoint(tmp_path / "run" / "checkpoints").name
        deadline = time.monotonic() + 900
        while latest_checkpoint(tmp_path / "run" / "checkpoints").name <= before or set(_children(torchrun)) & ranks:
            assert run.poll() is None, run.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        os.kill(run.pid, signal.SIGTERM)
        _, said = run.communicate(timeout=120)
        assert run.returncode == 143, said
        last = latest_checkpoint(tmp_path / "run" / "checkpoints")
        assert said.count("stopped: ") == said.count(f"is kept: {last}.") == 2 and "Traceback" not in said
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("processes", [(), ("--gpus", "2")])
def test_sigterm_to_every_process_of_a_job_loses_nothing(tmp_path, photos, tokenizer, processes):  # noqa: F811
    run = _start(tmp_path, photos, tokenizer, "--set", "workers=1", "--set", "save_every=1000", *processes)
    try:
        metrics, deadline = tmp_path / "run" / "metrics.csv", time.monotonic() + 900
        while not metrics.exists() or "loss" not in metrics.read_text():
            assert run.poll() is None, run.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGTERM)
        time.sleep(0.2)
        os.killpg(run.pid, signal.SIGTERM)
        _, said = run.communicate(timeout=120)
        assert run.returncode == 143, said
        assert f"is kept: {latest_checkpoint(tmp_path / 'run' / 'checkpoints')}." in said and "Traceback" not in said, (
            said
        )
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)


def test_processes_agree_on_stopping(monkeypatch):
    stop = Stop()
    Rank(0, 1, torch.device("cpu")).agree(stop)
    assert not stop.asked
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flags, op: flags.fill_(1))
    Rank(0, 2, torch.device("cpu")).agree(stop)
    with pytest.raises(Terminated):
        stop.raise_if_asked()


@pytest.mark.parametrize("count", [1, 2])
def test_who_is_asked_while_saving_stops_after_the_next_step(monkeypatch, count):
    """The others may have gone on to it: at a barrier this process would wait for them, and they for it."""
    rank, stop = Rank(0, count, torch.device("cpu"), os.getppid()), Stop()
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flags, op: None)
    monkeypatch.setattr(torch.distributed, "barrier", lambda: None)
    rank.agree(stop)
    stop.asked = True
    rank.leave_if_asked(stop)
    rank.agree(stop)
    with pytest.raises(KeyboardInterrupt):
        rank.leave_if_asked(stop)


def test_a_signal_while_processes_agree_is_not_lost(monkeypatch):
    rank, stop = Rank(0, 2, torch.device("cpu"), os.getppid()), Stop()
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flags, op: setattr(stop, "asked", True))
    rank.agree(stop)
    assert stop.asked and not stop.agreed


def test_a_process_that_torchrun_left_behind_stops(monkeypatch):
    rank, stop = Rank(0, 2, torch.device("cpu")), Stop()
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flags, op: None)
    rank.agree(stop)
    assert not stop.asked
    monkeypatch.setattr(os, "getppid", lambda: -1)
    rank.agree(stop)
    with pytest.raises(Terminated):
        stop.raise_if_asked()


def test_restarts_are_torchruns():
    assert "--max-restarts=3" in torchrun_command(Cluster(2, max_restarts=3), ["train"])
    with pytest.raises(UsageError, match="--max-restarts"):
        Cluster(max_restarts=3)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with staged_folder(target) as folder:
        (folder / "a").write_text("one")
    with pytest.raises(RuntimeError), staged_folder(target) as folder:
        (folder / "a").write_text("two")
        raise RuntimeError
    assert (target / "a").read_text() == "one"
    with staged_folder(target) as folder:
        (folder / "b").write_text("three")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    discard_folder(target)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    for value in (1, 2):
        save_checkpoint(tmp_path, 4, {"x": value})
    assert load_checkpoint(tmp_path / "step-00000004")[1]["x"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]

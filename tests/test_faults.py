"""Whatever happens during a run: finished work survives, the reason is told, and a rerun goes on."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import save_tiny_model

from defusion_cli import canvas as canvas_module
from defusion_cli import image_decode
from defusion_cli.app import exit_code, explain
from defusion_cli.canvas import Canvas
from defusion_cli.degrade import Damage, plan_folder, run_tasks
from defusion_cli.errors import DataError
from defusion_cli.files import remove_leftovers
from defusion_cli.images import write_image
from defusion_cli.interrupt import Terminated
from defusion_cli.plugins import installed_plugins
from defusion_cli.plugins.skeleton import write_skeleton
from defusion_cli.restore.ledger import Ledger
from defusion_cli.restore.plan import plan_jobs
from defusion_cli.restore.run import Outcome, restore_files
from defusion_cli.training.checkpoint import save_checkpoint


def _darken(canvas: Canvas) -> None:
    canvas.samples[:] = canvas.samples // 2


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in "abcd":
        write_image(tmp_path / "in" / f"{name}.png", rng.random((40, 50, 3), dtype=np.float32))
    return tmp_path / "in"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 kB, where the system lets us have one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no permission to mount a disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _states(outcomes: list[Outcome]) -> str:
    return "".join(outcome.state[0] for outcome in outcomes)


def _visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".png")


@pytest.mark.parametrize(
    ("signals", "kind", "done"),
    [
        ((signal.SIGINT,), KeyboardInterrupt, ["a.png", "b.png"]),
        ((signal.SIGINT, signal.SIGINT), KeyboardInterrupt, ["a.png"]),
        ((signal.SIGTERM,), Terminated, ["a.png"]),
    ],
)
def test_restore_finishes_the_file_in_hand_or_stops_now(photos, tmp_path, signals, kind, done):
    out, calls = tmp_path / "out", []

    def work(canvas: Canvas) -> None:
        calls.append(1)
        if len(calls) == 2:
            for number in signals:
                os.kill(os.getpid(), number)
        _darken(canvas)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(kind) as caught:
        restore_files(plan_jobs(photos, out), work, Ledger(out, {}))
    assert type(caught.value) is kind and signal.getsignal(signal.SIGTERM) is before
    assert _visible(out) == done and not list(out.glob(".*"))
    again = restore_files(plan_jobs(photos, out), _darken, Ledger(out, {}))
    assert _states(again) == "s" * len(done) + "r" * (4 - len(done))


def test_an_interrupt_at_the_last_file_is_no_interrupt(photos, tmp_path):
    def work(canvas: Canvas) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    (outcome,) = restore_files(plan_jobs(photos / "a.png", tmp_path / "a.png"), work, None)
    assert outcome.state == "restored"


def test_exit_codes_of_signals():
    assert (exit_code(KeyboardInterrupt()), exit_code(Terminated())) == (130, 143)
    assert "run the same command again" in str(explain(Terminated()))


def test_a_full_disk_is_told_and_keeps_what_is_finished(photos, tmp_path, small_disk):
    with pytest.raises(OSError) as caught:
        restore_files(plan_jobs(photos, small_disk), _darken, Ledger(small_disk, {}))
    assert (exit_code(caught.value), "disk is full" in str(explain(caught.value))) == (1, True)
    finished = _visible(small_disk)
    assert 0 < len(finished) < 4 and not list(small_disk.glob(".*"))
    (small_disk / finished[0]).unlink()
    (photos / "d.png").unlink()
    (photos / "c.png").unlink()
    again = restore_files(plan_jobs(photos, small_disk), _darken, Ledger(small_disk, {}))
    assert {outcome.state for outcome in again} <= {"restored", "skipped"}


def test_a_full_disk_ends_degrade_with_its_manifest(photos, tmp_path, small_disk):
    tasks = plan_folder(photos, small_disk, Damage(("noise",)), installed_plugins())
    with pytest.raises(OSError) as caught:
        run_tasks(tasks, small_disk)
    assert "disk is full" in str(explain(caught.value)) or "cannot be used" in str(explain(caught.value))
    assert not list(small_disk.glob(".defusion-*.tmp"))


def test_a_read_only_output_ends_the_run(photos, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError) as caught:
        restore_files(plan_jobs(photos, small_disk / "out"), _darken, Ledger(small_disk / "out", {}))
    assert exit_code(caught.value) == 3 and "Read-only" in str(explain(caught.value))


def test_an_input_that_vanishes_is_named_and_the_rest_is_done(photos, tmp_path):
    jobs = plan_jobs(photos, tmp_path / "out")
    (photos / "b.png").unlink()
    outcomes = restore_files(jobs, _darken, None)
    assert _states(outcomes) == "rfrr"
    assert "b.png cannot be read: No such file" in str(outcomes[1].problem)


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_computed(photos, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    calls: list[Canvas] = []
    with pytest.raises(OSError, match="Read-only") as caught:
        restore_files(plan_jobs(photos, small_disk / "a/b"), calls.append, None)
    assert (caught.value.filename, calls) == (str(small_disk), [])
    with pytest.raises(OSError, match="Read-only") as caught:
        run_tasks(plan_folder(photos, small_disk, Damage(("noise",)), installed_plugins()), small_disk)
    assert caught.value.filename == str(small_disk)


def test_a_finished_folder_may_become_read_only(photos, small_disk):
    (photos / "b.png").unlink()
    (photos / "c.png").unlink()
    (photos / "d.png").unlink()
    plan = plan_folder(photos, small_disk / "d", Damage(("noise",)), installed_plugins())
    restore_files(plan_jobs(photos, small_disk / "r"), _darken, Ledger(small_disk / "r", {}))
    run_tasks(plan, small_disk / "d")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert _states(restore_files(plan_jobs(photos, small_disk / "r"), _darken, Ledger(small_disk / "r", {}))) == "s"
    assert run_tasks(plan, small_disk / "d").counts["kept"] == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_circles_of_links_are_named_and_the_rest_is_done(photos, tmp_path):
    (photos / "circle.png").symlink_to("circle.png")
    os.mkfifo(photos / "pipe.png")
    outcomes = restore_files(plan_jobs(photos, tmp_path / "out"), _darken, None)
    assert _states(outcomes) == "rrrfrf"  # a, b, c, circle, d, pipe
    said = [str(outcome.problem) for outcome in outcomes if outcome.problem]
    assert "circle.png cannot be read: Too many levels" in said[0]
    assert "pipe.png cannot be read: it is no regular file" in said[1]
    plan = plan_folder(photos, tmp_path / "damaged", Damage(("noise",)), installed_plugins())
    assert run_tasks(plan, tmp_path / "damaged").counts == {"written": 4, "kept": 0, "different": 0, "failed": 2}


def test_half_a_plugin_is_none(small_disk):
    with open(small_disk / "filler", "wb") as file:
        file.write(bytes(24_000))
    with pytest.raises(OSError, match="No space left"):
        write_skeleton("moire", small_disk, installed_plugins())
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_a_large_picture_without_room_for_its_samples_is_named(photos, small_disk, monkeypatch):
    monkeypatch.setattr(canvas_module, "LARGE_PX", 100)
    write_image(photos / "b.png", np.zeros((100, 120, 3), np.float32))  # 36 kB
    outcomes = restore_files(plan_jobs(photos, small_disk), _darken, None)
    assert outcomes[1].state == "failed" and outcomes[0].state == "restored"
    said = str(outcomes[1].problem)
    assert "b.png is large, and there is no room for its samples" in said and str(small_disk) in said


def test_a_full_disk_is_told_of_a_checkpoint_too(small_disk):
    save_checkpoint(small_disk, 1, {"x": torch.zeros(1000)})
    with pytest.raises(OSError) as caught:
        save_checkpoint(small_disk, 2, {"x": torch.zeros(10_000)})
    assert (exit_code(caught.value), "disk is full" in str(explain(caught.value))) == (1, True)
    assert [path.name for path in small_disk.iterdir()] == ["step-00000001"]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no users here")
def test_files_without_permission_are_named(tmp_path):
    folder = Path(tempfile.mkdtemp())
    write_image(folder / "in" / "a.png", np.zeros((4, 4, 3), np.float32))
    write_image(folder / "in" / "b.png", np.zeros((4, 4, 3), np.float32))
    (folder / "out").mkdir()
    user = os.geteuid()
    for path, mode in ((folder, 0o755), (folder / "in", 0o755), (folder / "out", 0o777), (folder / "in/b.png", 0)):
        path.chmod(mode)
    try:
        if user == 0:
            os.seteuid(65534)
        outcomes = restore_files(plan_jobs(folder / "in", folder / "out"), _darken, None)
        shut = restore_files(plan_jobs(folder / "in/a.png", folder / "in/sub/a.png"), _darken, None)
        with pytest.raises(DataError, match="cannot be listed"):
            (folder / "out").chmod(0)
            plan_jobs(folder / "out", folder / "elsewhere")
    except PermissionError:
        (folder / "out").chmod(0o777) if user else None
    finally:
        os.seteuid(user)
    assert _states(outcomes) == "rf" and "b.png cannot be read: Permission denied" in str(outcomes[1].problem)
    if user == 0:
        assert shut[0].state == "failed" and "Permission denied" in str(shut[0].problem)


class _Trickle(io.RawIOBase):
    """A file system that gives a few bytes at a time."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._content.seek(offset, whence)

    def readinto(self, buffer: bytearray) -> int:
        piece = self._content.read(min(7, len(buffer)))
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp"])
def test_short_reads_are_not_short_files(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write_image(path, np.random.default_rng(0).random((30, 40, 3), dtype=np.float32))
    with open(path, "rb") as file:
        expected = image_decode.decode(file, ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
    trickle = io.BufferedReader(_Trickle(path.read_bytes()))
    found = image_decode.decode(trickle, ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
    np.testing.assert_array_equal(found.samples, expected.samples)


def test_a_clock_that_goes_backwards_loses_nothing(photos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    os.utime(photos / "a.png", (2**33, 2**33))  # from the future
    restore_files(plan_jobs(photos, out), _darken, Ledger(out, {}))
    (out / ".defusion-1-00000000.tmp").touch()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 10**7)
    remove_leftovers(out)
    assert (out / ".defusion-1-00000000.tmp").exists()  # it may belong to a run that lives
    assert _states(restore_files(plan_jobs(photos, out), _darken, Ledger(out, {}))) == "ssss"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the harness forks")
def test_kills_at_random_moments():
    """The short form of ``make chaos``."""
    harness = Path(__file__).parent / "chaos.py"
    command = [sys.executable, str(harness), "--kills", "2", "--seed", "1", "restore", "degrade", "train"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("finished with the same bytes") == 3


@pytest.mark.slow
def test_sigterm_ends_the_command_with_143(tmp_path, photos):
    model = save_tiny_model(tmp_path / "model")
    command = [sys.executable, "-m", "defusion_cli", "restore", str(photos), str(tmp_path / "out")]
    command += ["--degradation", "blind", "--model", str(model), "--steps", "50", "--json"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not list(tmp_path.glob("out/*.png")) and run.poll() is None:
        time.sleep(0.02)
    run.terminate()
    _, said = run.communicate(timeout=120)
    assert (run.returncode, "Traceback" in said) == (143, False), said
    assert not list(tmp_path.glob("out/.defusion-*"))

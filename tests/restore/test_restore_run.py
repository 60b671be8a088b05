"""Folder runs: what is done, what is skipped, what is refused, and what survives."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from defusion_cli.canvas import Canvas
from defusion_cli.errors import DataError, UsageError
from defusion_cli.images import read_pixels, write_image
from defusion_cli.restore.ledger import LEDGER_NAME, Ledger
from defusion_cli.restore.plan import plan_jobs
from defusion_cli.restore.run import Options, Outcome, Remark, remarks_in_words, restore_files
from defusion_cli.restore.sheet import MAX_PAIRS, write_sheet

ALL = (slice(None), slice(None))


def _darken(canvas: Canvas) -> None:
    canvas.put(ALL, canvas.pixels() * np.float32(0.5))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for number, name in enumerate(["a.png", "b.png", "deep/er/c.png"]):
        write_image(folder / name, np.full((8, 9, 3), 0.2 + 0.2 * number, np.float32))
    return folder


def _run(photos: Path, out: Path, overwrite: bool = False, **settings: int) -> dict[str, str]:
    jobs = plan_jobs(photos, out, overwrite)
    outcomes = restore_files(jobs, _darken, Ledger(out, settings), Options(overwrite))
    assert [outcome.job for outcome in outcomes] == jobs
    return {outcome.job.name: outcome.state for outcome in outcomes}


def test_the_structure_is_kept(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert set(_run(photos, out).values()) == {"restored"}
    for name in ["a.png", "b.png", "deep/er/c.png"]:
        np.testing.assert_allclose(read_pixels(out / name), read_pixels(photos / name) * 0.5, atol=1 / 255)
    lines = [json.loads(line) for line in (out / LEDGER_NAME).read_text().splitlines()]
    assert [line["name"] for line in lines] == ["a.png", "b.png", "deep/er/c.png"]
    assert all(line["seconds"] >= 0 for line in lines)


def test_a_rerun_skips_what_is_finished_and_only_that(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(photos, out, steps=1)
    before = (out / "a.png").stat().st_mtime_ns
    assert set(_run(photos, out, steps=1).values()) == {"skipped"}
    assert (out / "a.png").stat().st_mtime_ns == before
    (out / "a.png").unlink()
    write_image(photos / "b.png", np.full((8, 9, 3), 0.9, np.float32))
    assert _run(photos, out, steps=1) == {"a.png": "restored", "b.png": "restored", "deep/er/c.png": "skipped"}
    assert set(_run(photos, out, steps=2).values()) == {"restored"}
    assert set(_run(photos, out, steps=1).values()) == {"restored"}
    assert set(_run(photos, out, overwrite=True, steps=1).values()) == {"restored"}


def test_files_of_others_are_not_overwritten(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(photos, out)
    write_image(out / "b.png", np.ones((3, 3, 3), np.float32))  # edited by the user since
    edited = (out / "b.png").read_bytes()
    assert _run(photos, out, steps=9) == {"a.png": "restored", "b.png": "failed", "deep/er/c.png": "restored"}
    assert (out / "b.png").read_bytes() == edited
    assert _run(photos, out, overwrite=True, steps=9)["b.png"] == "restored"


def test_a_kill_between_the_record_and_the_file_loses_nothing(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(photos, out)
    finished = (out / "b.png").read_bytes()
    ledger = out / LEDGER_NAME
    text = ledger.read_text()
    ledger.write_text(text[: len(text) - 40])  # the last line is torn
    (out / "b.png").unlink()
    # c.png lost its record: it is nobody's now. b.png has a record and no file.
    assert _run(photos, out) == {"a.png": "skipped", "b.png": "restored", "deep/er/c.png": "failed"}
    assert (out / "b.png").read_bytes() == finished
    assert json.loads(ledger.read_text().splitlines()[-1])["name"] == "b.png"


@pytest.mark.parametrize(
    "text", ["\x00\xff", "[1]\n{}\n", '{"version": 1}\n', '{"version": 1, "name": []}\n', "[" * 99999]
)
def test_a_damaged_record_is_read_as_far_as_it_goes(photos: Path, tmp_path: Path, text: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / LEDGER_NAME).write_text(text, encoding="latin-1")
    assert set(_run(photos, out).values()) == {"restored"}
    assert set(_run(photos, out).values()) == {"skipped"}


def test_broken_files_are_named_and_the_rest_is_done(photos: Path, tmp_path: Path) -> None:
    (photos / "b.png").write_bytes(b"no picture")
    (photos / "c.png").write_bytes((photos / "a.png").read_bytes()[:40])
    out, seen = tmp_path / "out", []
    restore_files(plan_jobs(photos, out), _darken, Ledger(out, {}), watch=seen.append)
    assert [o.state for o in seen] == ["restored", "failed", "failed", "restored"]
    assert all(o.job.source.name in str(o.problem) for o in seen if o.state == "failed")
    assert sorted(p.name for p in out.rglob("*.*")) == ["a.png", "c.png", LEDGER_NAME]


def test_a_full_disk_ends_the_run(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        _run(photos, out)
    monkeypatch.undo()
    assert set(_run(photos, out).values()) == {"restored"}


def test_an_interrupt_keeps_what_is_finished(photos: Path, tmp_path: Path) -> None:
    out, calls = tmp_path / "out", []

    def stop_at_second(canvas: Canvas) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        _darken(canvas)

    with pytest.raises(KeyboardInterrupt):
        restore_files(plan_jobs(photos, out), stop_at_second, Ledger(out, {}))
    assert _run(photos, out) == {"a.png": "skipped", "b.png": "restored", "deep/er/c.png": "restored"}


def test_lack_of_memory_is_one_files_problem(photos: Path, tmp_path: Path) -> None:
    out, seen = tmp_path / "out", []

    def hungry(canvas: Canvas) -> None:
        if canvas.pixels()[0, 0, 0] < 0.3:
            raise MemoryError

    restore_files(plan_jobs(photos, out), hungry, None, watch=seen.append)
    assert [o.state for o in seen] == ["failed", "restored", "restored"]
    assert "memory" in str(seen[0].problem)


def test_one_file_to_a_file_or_a_folder(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "there.v2").mkdir()
    for out, target in [
        (tmp_path / "x.jpg", tmp_path / "x.jpg"),
        (tmp_path / "new", tmp_path / "new/a.png"),
        (tmp_path / "there.v2", tmp_path / "there.v2/a.png"),
    ]:
        (job,) = plan_jobs(photos / "a.png", out)
        assert job.target == target
    with pytest.raises(UsageError, match=r"out\.gif"):
        plan_jobs(photos / "a.png", tmp_path / "out.gif")
    (tmp_path / "x.jpg").touch()
    (outcome,) = restore_files(plan_jobs(photos / "a.png", tmp_path / "x.jpg"), _darken, None)
    assert outcome.state == "failed" and "--overwrite" in str(outcome.problem)


def test_originals_are_safe(photos: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(photos)
    for out in (photos, link, photos / "deep" / ".."):
        with pytest.raises(UsageError, match="replace an original"):
            plan_jobs(photos, out)
    with pytest.raises(UsageError, match="replace an original"):
        plan_jobs(photos / "a.png", photos)
    assert len(plan_jobs(photos, photos, overwrite=True)) == 3


def test_an_output_inside_the_input_is_no_input(photos: Path) -> None:
    out = photos / "restored"
    assert len(_run(photos, out)) == 3
    assert set(_run(photos, out).values()) == {"skipped"}


def test_inputs_that_are_none(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="does not exist"):
        plan_jobs(tmp_path / "none", tmp_path / "out")
    with pytest.raises(DataError, match="no picture in"):
        plan_jobs(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(UsageError, match="is not a folder"):
        plan_jobs(photos, photos / "a.png")


def test_the_sheet_shows_pairs_of_any_size(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in range(MAX_PAIRS + 1):
        size = (40 + 10 * number, 600) if number % 2 else (1, 1)
        write_image(folder / f"{'long' * number}{number:02}.png", np.full((*size, 3), 0.3, np.float32))
    jobs = plan_jobs(folder, out)
    assert write_sheet(jobs, tmp_path / "none.png") == 0 and not (tmp_path / "none.png").exists()
    outcomes: list[Outcome] = restore_files(jobs, _darken, None)
    assert {outcome.state for outcome in outcomes} == {"restored"}
    assert write_sheet(jobs, tmp_path / "sheet.png") == MAX_PAIRS
    sheet = read_pixels(tmp_path / "sheet.png")
    assert sheet.shape[1] == 2 * (2 * 480 + 6) + 3 * 18
    values = set(np.unique((sheet[..., 0] * 255).round()))
    assert {round(0.3 * 255), round(0.15 * 255)} <= values  # before and after are both on it


@pytest.mark.parametrize(
    "name", [b"bad\xff\xfe.png", "a\u2028b.png".encode(), "a\u0085b.png".encode(), "ü ä.png".encode()]
)
def test_a_file_of_any_name_is_restored_and_known_again(tmp_path, name):
    folder = tmp_path / "in"
    folder.mkdir()
    write_image(folder / "a.png", np.zeros((4, 4, 3), np.float32))
    try:
        os.rename(folder / "a.png", os.path.join(os.fsencode(folder), name))
    except OSError:
        pytest.skip("this disk takes no such name")
    write_image(folder / "z.png", np.zeros((4, 4, 3), np.float32))
    assert set(_run(folder, tmp_path / "out").values()) == {"restored"}
    assert set(_run(folder, tmp_path / "out").values()) == {"skipped"}


def test_a_folder_does_not_go_into_what_is_called_like_a_picture(tmp_path, photos):
    with pytest.raises(UsageError, match="called like a picture"):
        plan_jobs(photos, tmp_path / "out.png")
    (tmp_path / "out.png").mkdir()
    assert plan_jobs(photos, tmp_path / "out.png")


@pytest.mark.parametrize("suffix", [".webp", ".tif", ".png"])
def test_that_further_frames_are_left_out_is_told(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "in").mkdir()
    first, *rest = (Image.fromarray(np.full((40, 50, 3), value, np.uint8)) for value in (200, 90, 40))
    first.save(tmp_path / "in" / f"a{suffix}", save_all=True, append_images=rest, lossless=True)
    Image.fromarray(np.full((40, 50, 3), 200, np.uint8)).save(tmp_path / "in" / f"b{suffix}")
    jobs = plan_jobs(tmp_path / "in", tmp_path / "out")
    ledger = Ledger(tmp_path / "out", {})
    told = [remarks_in_words(made.facts) for made in restore_files(jobs, _darken, ledger)]
    assert told == ["only the first of its 3 frames", ""]
    np.testing.assert_allclose(*(read_pixels(tmp_path / "out" / f"{name}{suffix}") for name in "ab"), atol=0.02)
    again = restore_files(jobs, _darken, Ledger(tmp_path / "out", {}))
    assert [remarks_in_words(skipped.facts) for skipped in again] == told
    copied = restore_files(jobs, lambda _: Remark(untouched=True), None, Options(overwrite=True))
    assert not any(remarks_in_words(made.facts) for made in copied)
    assert (tmp_path / "out" / f"a{suffix}").read_bytes() == (tmp_path / "in" / f"a{suffix}").read_bytes()

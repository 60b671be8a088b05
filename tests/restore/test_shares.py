"""Several processes, each with its share of a folder: all is done once, and a rerun knows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from defusion_cli.errors import UsageError
from defusion_cli.restore.ledger import LEDGER_NAME, Ledger
from defusion_cli.restore.plan import Job, plan_jobs
from defusion_cli.restore.run import restore_files
from defusion_cli.restore.shares import SHARE, Share, own_share


def test_every_file_falls_to_one_share_whatever_else_is_there():
    jobs = [Job(f"deep/{n}.png", Path(f"in/deep/{n}.png"), Path(f"out/deep/{n}.png")) for n in range(1000)]
    shares = [Share(number, 7).of(jobs) for number in range(1, 8)]
    assert sorted(job.name for share in shares for job in share) == sorted(job.name for job in jobs)
    assert all(100 < len(share) < 190 for share in shares)
    assert [job for job in shares[2] if job in jobs[::3]] == Share(3, 7).of(jobs[::3])
    assert Share().of(jobs) == jobs


@pytest.mark.parametrize("text", ["0/8", "9/8", "8", "a/b", "1/2/3", ""])
def test_a_share_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv(SHARE, text)
    with pytest.raises(UsageError, match=SHARE):
        own_share()
    monkeypatch.setenv(SHARE, "3/8")
    assert own_share() == (3, 8)


def _photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((8, 8, 3), 10 * number, np.uint8))
    return folder


def test_what_another_process_made_meanwhile_is_skipped(tmp_path):
    jobs = plan_jobs(_photos(tmp_path / "in", 4), tmp_path / "out")
    ours, other = Ledger(tmp_path / "out", {"a": 1}), Ledger(tmp_path / "out", {"a": 1})
    assert {outcome.state for outcome in restore_files(jobs[:2], lambda canvas: None, other)} == {"restored"}
    assert Counter(outcome.state for outcome in restore_files(jobs, lambda canvas: None, ours)) == {
        "skipped": 2,
        "restored": 2,
    }


def test_the_records_of_all_shares_are_read(tmp_path):
    out, settings = tmp_path / "out", {"a": 1}
    jobs = plan_jobs(_photos(tmp_path / "in", 6), out)
    for number in (1, 2):
        share = Share(number, 2)
        restore_files(share.of(jobs), lambda canvas: None, Ledger(out, settings, share))
    names = [json.loads(line)["name"] for path in out.glob("*-of-2.jsonl") for line in path.read_text().splitlines()]
    assert sorted(names) == sorted(job.name for job in jobs)
    again = restore_files(jobs, lambda canvas: None, Ledger(out, settings))
    assert {outcome.state for outcome in again} == {"skipped"}
    other = restore_files(jobs, lambda canvas: None, Ledger(out, {"a": 2}))  # ours, but made otherwise: made anew
    assert {outcome.state for outcome in other} == {"restored"} and (out / LEDGER_NAME).exists()
    assert all(outcome.state == "skipped" for outcome in restore_files(jobs, lambda c: None, Ledger(out, {"a": 2})))


def test_a_ledger_of_many_files_takes_little_memory(tmp_path):
    jobs = plan_jobs(_photos(tmp_path / "in", 1), tmp_path / "out")
    settings = {"text": "x" * 5000}
    restore_files(jobs, lambda canvas: None, Ledger(tmp_path / "out", settings))
    path = tmp_path / "out" / LEDGER_NAME
    line = path.read_text()
    path.write_text("".join(line.replace('"0.png"', f'"{number}.png"') for number in range(1000)))
    code = (
        "import sys, tracemalloc\nfrom pathlib import Path\nfrom defusion_cli.restore.ledger import Ledger\n"
        "tracemalloc.start()\nledger = Ledger(Path(sys.argv[1]), {})\nprint(tracemalloc.get_traced_memory()[0])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    kept = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert kept < 1_000_000 < path.stat().st_size
    assert Ledger(tmp_path / "out", settings).is_finished(jobs[0])


@pytest.mark.slow
def test_a_folder_is_shared_and_every_failure_is_told(tmp_path):
    photos = _photos(tmp_path / "in", 5)
    for name in "abcd":
        (photos / f"{name}.png").write_bytes(b"no picture")
    (photos / "e.gif").touch()
    command = [sys.executable, "-m", "defusion_cli", "restore", str(photos), str(tmp_path / "out")]
    command += ["--degradation", "noise", "--device", "cpu", "--gpus", "2"]
    environment = {name: value for name, value in os.environ.items() if name not in (SHARE, "RANK")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 3, done.stderr
    assert all(done.stderr.count(f"{name}.png is not a picture") == 1 for name in "abcd")
    assert done.stderr.count("left out") == 1
    assert "5 there, 4 missing" in done.stderr and "of 2 processes could not do all" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [f"{n}.png" for n in range(5)]
    for name in "abcd":
        (photos / f"{name}.png").unlink()
    again = subprocess.run(command[:-2], capture_output=True, text=True, timeout=300, env=environment)
    assert again.returncode == 0 and "5 done before" in again.stderr
    refused = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=300, env=environment)
    assert refused.returncode == 2 and "--json does not go" in refused.stderr

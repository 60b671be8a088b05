from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from defusion_cli import checkup
from defusion_cli.app import app
from defusion_cli.errors import DataError

FIXTURES = Path(__file__).parent / "fixture_plugins"


def test_a_broken_plugin_is_found_and_everything_else_looked_at():
    paths = os.pathsep.join([str(FIXTURES / "broken"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "defusion_cli", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 1, done.stderr
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert findings["plugin broken"]["state"] == "wrong"
    assert findings["plugin broken"]["fix"] == "pip install --upgrade fixture-broken"
    for what in ("defusion", "Python", "PyTorch", "CPU", "plugins", "default model", "metrics", "temporary files"):
        assert findings[what]["state"] == "ok", findings[what]
    assert "M parameters" in findings["default model"]["found"]


def test_a_check_that_fails_is_a_finding_with_its_fix(monkeypatch):
    def broken():
        raise DataError("The default model is missing.", fix="reinstall it")
        yield

    def raising():
        raise ZeroDivisionError("boom")
        yield

    monkeypatch.setattr(checkup, "_model", broken)
    monkeypatch.setattr(checkup, "_torch", raising)
    monkeypatch.setattr(checkup, "_metrics", lambda: iter(()))
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "The default model is missing." in done.stdout and "fix: reinstall it" in done.stdout
    assert "ZeroDivisionError: boom" in done.stdout
    assert "2 to fix" in done.stderr


def test_too_many_threads_and_two_opencvs_are_told(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 4096)
    threads = next(finding for finding in checkup._torch() if finding.what == "threads")
    assert threads.state == "note" and threads.fix is not None and threads.fix.startswith("export OMP_NUM_THREADS=")
    monkeypatch.setattr(checkup, "_version", lambda name: "1")
    twins = next(finding for finding in checkup._defusion() if finding.what == "OpenCV")
    assert "pip uninstall opencv-python" in (twins.fix or "")

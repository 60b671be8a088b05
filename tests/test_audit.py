"""``make audit`` ends well only where packages were compared with advisories and none was named in one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from audit import verdict

from defusion_cli.errors import DataError, DefusionError

# As pip-audit 2.10 reports them.
SOUND = {"name": "tifffile", "version": "2026.3.3", "vulns": []}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.14.1+cpu)"}
VULNERABLE = {
    "name": "pillow",
    "version": "10.0.0",
    "vulns": [{"id": "PYSEC-2023-175", "fix_versions": ["10.0.1"], "aliases": ["CVE-2023-4863"], "description": "…"}],
}


def test_what_is_sound_and_what_was_not_audited_is_told():
    said = verdict({"dependencies": [SOUND, UNKNOWN], "fixes": []})
    assert said.startswith("No known vulnerability in 1 of 2 packages.") and said.endswith("does not know them: torch.")


def test_a_known_vulnerability_fails_and_names_the_fixed_release():
    with pytest.raises(DataError) as caught:
        verdict({"dependencies": [SOUND, VULNERABLE, UNKNOWN], "fixes": []})
    assert caught.value.found == "pillow 10.0.0: PYSEC-2023-175, fixed in 10.0.1"


def test_an_audit_of_nothing_is_no_success():
    with pytest.raises(DefusionError, match="Nothing was audited"):
        verdict({"dependencies": [UNKNOWN], "fixes": []})


def test_without_network_a_sentence_and_no_traceback(tmp_path):
    # Nobody listens on the port 9; a cache of earlier answers is not looked at.
    nowhere = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
    environment = {**os.environ, **nowhere, "XDG_CACHE_HOME": str(tmp_path), "PIP_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, str(Path(__file__).parent / "audit.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("Nothing was audited: ") and "fix: make audit" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 3

"""The README's commands work: every line that starts with `$ ` in a ```console block is run, in order, in one folder.

What only people need (cloning, installing, make) stands in ```sh blocks, which are not run here.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from defusion_cli.commands import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _commands() -> list[list[str]]:
    blocks = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line[2:], comments=True) for line in lines if line.startswith("$ ")]


def test_every_subcommand_has_an_example() -> None:
    assert {words[1] for words in _commands() if words[0] == "defusion"} >= set(COMMANDS)


def test_every_picture_and_page_that_is_linked_exists() -> None:
    targets = re.findall(r"\]\(([^)#]+)", README)
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert targets and missing == []


def test_the_commands_run_as_written(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("out", "gallery"))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    for words in _commands():
        assert words[0] == "defusion", "a console block runs defusion only"
        done = subprocess.run(
            [sys.executable, "-m", "defusion_cli", *words[1:]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"

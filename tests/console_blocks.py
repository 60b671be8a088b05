"""Runs the ```console blocks of a page: each line that begins with ``$ ``, and compares what it prints.

The lines below a command are its output; ``…`` stands for any text, and a line of nothing else for any lines. A
command without lines below it may print what it likes. What only people need stands in ```sh blocks.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = {"defusion": [sys.executable, "-m", "defusion_cli"], "python": [sys.executable], "ls": ["ls"]}


@dataclass(frozen=True)
class Command:
    """One command of a page, and the output shown below it."""

    words: tuple[str, ...]
    output: str

    def run(self, folder: Path) -> None:
        """Run it in `folder`; AssertionError if it fails, or prints something else."""
        assert self.words[0] in PROGRAMS, f"a console block runs {', '.join(PROGRAMS)} only"
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(
            [*PROGRAMS[self.words[0]], *self.words[1:]],
            cwd=folder,
            env=environment,
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, f"{shlex.join(self.words)}\n{done.stderr}"
        if self.output:
            pattern = _pattern(self.output)
            assert re.fullmatch(pattern, done.stdout.rstrip() + "\n"), f"{shlex.join(self.words)}\n{done.stdout}"


def _pattern(output: str) -> str:
    lines = [r"(?:.*\n)*?" if line.strip() == "…" else _line(line) for line in output.splitlines()]
    return "".join(lines)


def _line(line: str) -> str:
    return r"[^\n]*?".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ ]*\n"


def commands_of(page: str) -> list[Command]:
    """The commands of all console blocks, in order."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", page, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found:
                found[-1][1].append(line)
    return [Command(tuple(shlex.split(text, comments=True)), "\n".join(lines)) for text, lines in found]

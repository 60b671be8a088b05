"""The fenced blocks of a page, and how the commands in them are run.

A ```console block shows commands after ``$ `` and what they print below: ``…`` stands for any text, a line of nothing
else for any lines, and a command without lines below it may print what it likes. Every line of an ```sh block is a
command, of which only the exit status counts; lines that begin with a blank belong to the command above.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Of no program: nothing to run.
PROSE = {"text", "mermaid", "bibtex"}


@dataclass(frozen=True)
class Block:
    """One fenced block: what stands behind the fence, and its lines."""

    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """One command of a page, and the output shown below it; None in an sh block, which shows none."""

    line: str
    output: str | None = None

    def run(self, folder: Path, environment: dict[str, str] | None = None, extra: str = "") -> None:
        """Run it in `folder`, with `extra` behind it; AssertionError if it fails, or prints something else."""
        environment = {**os.environ, **(environment or {}), "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
        # The colon keeps the shell there as the parent of the command: completion is installed for that shell.
        script = f"set -euo pipefail\n{self.line} {extra}\n:"
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, encoding="utf-8"
        )
        assert done.returncode == 0, f"{self.line} {extra}\n{done.stdout}\n{done.stderr}"
        if self.output:
            assert re.fullmatch(_pattern(self.output), done.stdout.rstrip() + "\n"), f"{self.line}\n{done.stdout}"


def _pattern(output: str) -> str:
    lines = [r"(?:.*\n)*?" if line.strip() == "…" else _line(line) for line in output.splitlines()]
    return "".join(lines)


def _line(line: str) -> str:
    return r"[^\n]*?".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ ]*\n"


def blocks_of(page: str) -> list[Block]:
    """All fenced blocks, in order."""
    found = re.findall(r"^[ ]*```([^\n]*)\n(.*?)^[ ]*```[ ]*$", page, flags=re.DOTALL | re.MULTILINE)
    return [Block(*block) for block in found]


def commands_of(page: str) -> list[Command]:
    """The commands of all console and sh blocks, in order."""
    found: list[Command] = []
    for block in blocks_of(page):
        text = block.text.replace("\\\n", " ")
        if block.language == "console":
            found += _commands_with_output(text)
        elif block.language == "sh":
            lines = re.findall(r"^\S.*(?:\n[ ].*|\ndone)*", text, flags=re.MULTILINE)
            found += [Command(re.sub(r"\s+# .*", "", line)) for line in lines]
    return found


def _commands_with_output(text: str) -> list[Command]:
    commands = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        commands.append(Command(line, output.rstrip("\n")))
    return commands

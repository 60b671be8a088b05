"""Write docs/commands.md (help pages) and docs/degradations.md (built-in plugins, their parameters) from the code.

python docs/make_docs.py [FOLDER]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from defusion_cli.commands import COMMANDS
from defusion_cli.plugins import Degradation, describe_params, installed_plugins

HEAD = "<!-- Written by `make docs`; edit the code, not this page. -->\n"


def help_page(command: str) -> str:
    """What `defusion COMMAND --help` prints, 100 characters wide."""
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-m", "defusion_cli", *command.split(), "--help"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())


def commands_page() -> str:
    """All help pages as Markdown."""
    parts = [HEAD, "# Commands\n", f"```text\n{help_page('')}\n```\n"]
    parts += [f"## defusion {command}\n\n```text\n{help_page(command)}\n```\n" for command in COMMANDS]
    return "\n".join(parts)


def _range(row: dict[str, Any]) -> str:
    if row["choices"]:
        return ", ".join(row["choices"])
    return "true, false" if row["low"] is None else f"{row['low']:g} … {row['high']:g}"


def degradation_section(plugin: Degradation[Any]) -> str:
    """One plugin: its summary and a table of its parameters."""
    lines = [f"## {plugin.id}\n", f"{plugin.summary} (version {plugin.version})\n"]
    lines += ["| parameter | default | range | unit | meaning |", "|---|---|---|---|---|"]
    for row in describe_params(plugin.Params):
        lines.append(f"| {row['name']} | {row['default']} | {_range(row)} | {row['unit']} | {row['meaning']} |")
    return "\n".join(lines) + "\n"


def degradations_page() -> str:
    """The built-in degradations as Markdown."""
    plugins = installed_plugins()
    built_in = [plugins[i] for i in sorted(plugins) if plugins.source(i).distribution == "defusion"]
    return "\n".join([HEAD, "# Built-in degradations\n", *(degradation_section(p) for p in built_in)])


def main() -> None:
    """Write both pages."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, text in {"commands.md": commands_page(), "degradations.md": degradations_page()}.items():
        (folder / name).write_text(text, encoding="utf-8")
        print(folder / name)


if __name__ == "__main__":
    main()

"""Write pages in docs/ from the code: commands.md (help), degradations.md (plugins, parameters), datasets.md.

python docs/make_docs.py [FOLDER]
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from defusion_cli.commands import COMMANDS
from defusion_cli.data.adapters import DATASETS, DatasetSpec
from defusion_cli.data.adapters.advice import layouts_text
from defusion_cli.plugins import Degradation, describe_params, installed_plugins
from defusion_cli.scoring.protocols import PAPER

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


def _figures(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{part} {count}" for part, count in counts.items()) or "–"


def dataset_section(spec: DatasetSpec) -> str:
    """One data set: figures, layouts, what to know, terms."""
    supplement = _figures(spec.family_supplement) + f" ({spec.family} together)" if spec.family else ""
    lines = [f"## {spec.id}\n", f"{spec.title}. Shows: {' + '.join(spec.degradations) or 'whatever you say'}.\n"]
    lines += [f"- Pairs, official: {_figures(spec.official)}; supplement of Defusion: "]
    lines[-1] += f"{supplement or _figures(spec.supplement)} (split `{spec.supplement_split}`)."
    lines += [f"- Layout: {name}: `{rule}`" for name, rule in (t.split(": ", 1) for t in layouts_text(spec))]
    lines += [f"- Overlap: {text}" for text in spec.overlaps] + [f"- {text}" for text in spec.notes]
    lines += [f"- Terms: {spec.licence}. {spec.citation} {spec.source}".rstrip()]
    return "\n".join(lines) + "\n"


def datasets_page() -> str:
    """The data sets and the protocols of their papers as Markdown."""
    rows = ["| `--set` | PSNR | SSIM | FID mode | read in |", "|---|---|---|---|---|"]
    for name, protocol in PAPER.items():
        texts = protocol.psnr_text(), protocol.ssim_text(), protocol.fid_mode, protocol.source
        rows.append(f"| {name} | " + " | ".join(texts) + " |")
    table = "\n".join(rows)
    parts = [HEAD, "# Data sets\n", *(dataset_section(spec) for spec in DATASETS.values())]
    return "\n".join([*parts, "# Protocols of `defusion score --protocol paper`\n", f"{table}\n"])


PAGES = {"commands.md": commands_page, "datasets.md": datasets_page, "degradations.md": degradations_page}


def main() -> None:
    """Write the pages."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")
        print(folder / name)


if __name__ == "__main__":
    main()

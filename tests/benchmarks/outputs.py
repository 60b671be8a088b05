"""Where a benchmark leaves its figures: on the screen, in a file for programs, and in a page of the documentation."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
from collections.abc import Mapping
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

TITLE = "<!-- Written by `make bench`; run it to measure your machine. -->\n\n# Speed\n"


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """The options ``--json FILE`` and ``--markdown PAGE``."""
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--markdown", type=Path, help="also add a section to this page")


def leave(
    arguments: argparse.Namespace, heading: str, table: str, document: Mapping[str, Any], words: str = ""
) -> None:
    """Print `table`, and write what the options of `add_outputs` ask for.

    Parameters
    ----------
    heading, words
        Of the section of a page: what stands above the table, and what is to be said below it. The machine and the
        date follow.
    document
        The figures for ``--json``.
    """
    print(table)
    if arguments.markdown:
        section = "\n\n".join(part for part in (f"## {heading}", table, words, f"{machine()}, {date.today()}.") if part)
        page = arguments.markdown.read_text(encoding="utf-8") if arguments.markdown.exists() else TITLE
        arguments.markdown.write_text(with_section(page, heading, section), encoding="utf-8")
    if arguments.json:
        whole = {"version": 1, "machine": machine(), "date": str(date.today()), **document}
        arguments.json.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def with_section(page: str, heading: str, section: str) -> str:
    """`page` with `section` in the place of the one under the same heading, or at its end."""
    there = re.compile(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if there.search(page):
        return there.sub(lambda _: f"{section}\n\n", page, count=1).rstrip("\n") + "\n"
    return f"{page.rstrip()}\n\n{section}\n".lstrip()


def machine() -> str:
    """The processor with what it has for bfloat16, its cores, and PyTorch's version."""
    name, flags = _cpuinfo("model name"), _cpuinfo("flags").split()
    name = name or platform.processor() or platform.machine()
    for flag, words in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512 bf16")):
        if flag in flags:
            name += f" with {words}"
            break
    return f"{name}, {os.cpu_count()} cores, torch {metadata.version('torch')}"


def _cpuinfo(key: str) -> str:
    """A line of what Linux tells of the first core; empty elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")

"""Where a benchmark leaves its figures: on the screen, in a file for programs, and in a page of the documentation."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
        Of the section of a page: what stands above the table, and a sentence about the machine below it.
    document
        The figures for ``--json``.
    """
    print(table)
    if arguments.markdown:
        section = "\n\n".join(part for part in (f"## {heading}", table, words) if part)
        page = arguments.markdown.read_text(encoding="utf-8") if arguments.markdown.exists() else ""
        arguments.markdown.write_text(with_section(page, heading, section), encoding="utf-8")
    if arguments.json:
        arguments.json.write_text(json.dumps({"version": 1, **document}, indent=2) + "\n", encoding="utf-8")


def with_section(page: str, heading: str, section: str) -> str:
    """`page` with `section` in the place of the one under the same heading, or at its end."""
    there = re.compile(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if there.search(page):
        return there.sub(lambda _: f"{section}\n\n", page, count=1).rstrip("\n") + "\n"
    return f"{page.rstrip()}\n\n{section}\n".lstrip()

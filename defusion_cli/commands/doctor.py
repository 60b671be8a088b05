"""``defusion doctor``: what of this installation works, and what to do about the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from defusion_cli import console

if TYPE_CHECKING:
    from defusion_cli.checkup import Finding

_COLOURS = {"ok": "green", "note": "yellow", "wrong": "red"}


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check Python, PyTorch, devices, weights, plugins, caches and metrics; say what to fix.

    Exit code 0: everything needed works; 1: something does not. Nothing is downloaded.

    Example: defusion doctor
    """
    from defusion_cli.checkup import examine

    findings = list(examine())
    wrong = sum(finding.state == "wrong" for finding in findings)
    if json:
        console.print_json("defusion-doctor", {"findings": [finding.to_json() for finding in findings]})
    else:
        _show(findings)
        counts = {state: sum(finding.state == state for finding in findings) for state in _COLOURS}
        console.note(f"{counts['ok']} in order, {counts['note']} to know of, {counts['wrong']} to fix")
    raise typer.Exit(1 if wrong else 0)


def _show(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("what", "", "found")
    for finding in findings:
        found = finding.found + (f"\nfix: {finding.fix}" if finding.fix else "")
        table.add_row(finding.what, Text(finding.state, style=_COLOURS[finding.state]), found)
    console.show(table)

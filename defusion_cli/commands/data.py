"""``defusion data list|check``: the data sets that are known, and what a folder holds of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defusion_cli import console
from defusion_cli.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from defusion_cli.data.adapters import DatasetSpec, Report


def data(
    action: Annotated[str, typer.Argument(metavar="list|check", help="Known data sets; or what a folder holds.")],
    folder: Annotated[Path | None, typer.Argument(metavar="ROOT", help="check: folder of one set, or several.")] = None,
    set_: Annotated[
        str | None, typer.Option("--set", metavar="NAME", help="The set it should be; list: all about this set.")
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="official|seed90|FILE", help="The split to count: the authors', 90/10, or a list.")
    ] = "official",
    sizes: Annotated[bool, typer.Option("--sizes/--no-sizes", help="Compare the sizes of the two of a pair.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the known data sets, or check a folder against them.

    Example: defusion data check datasets/GOPRO_Large
    """
    from defusion_cli.data.adapters import DATASETS, check, dataset

    spec = dataset(set_) if set_ else None
    if action == "list" and folder is None:
        _list([spec] if spec else list(DATASETS.values()), spec is not None, json)
        return
    if action != "check":
        raise UsageError("There is no such use of data.", found=action, accepted="list, or check ROOT")
    if folder is None:
        raise UsageError("ROOT is needed.", fix="defusion data check datasets/GOPRO_Large")
    if not sizes:
        reports = check(folder, spec, split)
    else:
        with console.progress("Checking", None, "pairs") as bar:
            done = 0

            def watch(count: int) -> None:
                nonlocal done
                bar.advance(max(count - done, 0))
                done = count

            reports = check(folder, spec, split, watch)
    _tell(reports, json)
    raise typer.Exit(3 if any(report.problems for report in reports) else 0)


def _list(specs: list[DatasetSpec], full: bool, json: bool) -> None:
    from defusion_cli.data.adapters.advice import layouts_text

    if json:
        console.print_json("defusion-datasets", {"sets": [_as_json(spec) for spec in specs]})
        return
    if not full:
        console.show(_table(specs))
        return
    for spec in specs:
        lines = [f"{spec.id}: {spec.title}", f"  shows: {' + '.join(spec.degradations)}"]
        lines += [f"  layout: {text}" for text in layouts_text(spec)]
        lines += [f"  overlap: {text}" for text in spec.overlaps] + [f"  note: {text}" for text in spec.notes]
        lines += [f"  licence: {spec.licence}", f"  paper: {spec.citation}", f"  from: {spec.source}"]
        console.result("\n".join(lines))


def _as_json(spec: DatasetSpec) -> dict[str, object]:
    from defusion_cli.data.adapters.advice import layouts_text

    counts = ("official", "supplement", "family", "family_supplement", "supplement_split")
    keys = ("id", "title", "degradations", *counts, "licence", "citation", "source", "overlaps", "notes")
    return {**{key: getattr(spec, key) for key in keys}, "layouts": layouts_text(spec)}


def _table(specs: list[DatasetSpec]) -> Table:
    from rich.table import Column, Table

    table = Table(Column("set", no_wrap=True), "shows", "official", "supplement", "terms")
    for spec in specs:
        official, theirs = (
            ", ".join(f"{k} {v}" for k, v in c.items()) or "-" for c in (spec.official, spec.supplement)
        )
        if spec.family:
            theirs = f"{spec.family} together: " + ", ".join(f"{k} {v}" for k, v in spec.family_supplement.items())
        table.add_row(spec.id, " + ".join(spec.degradations), official, theirs, spec.licence)
    return table


def _tell(reports: list[Report], json: bool) -> None:
    from rich.table import Column, Table

    if json:
        console.print_json("defusion-data-check", {"sets": [report.to_json() for report in reports]})
        return
    for report in reports:
        state = "wrong" if report.problems else "complete" if report.complete else "incomplete"
        table = Table("part", Column("pairs", justify="right"), "official", "supplement")
        console.result(f"{report.spec.title} ({report.spec.id}), {report.layout}: {state}")
        for row in report.rows:
            numbers = ("-" if n is None else str(n) for n in (row.official, row.supplement))
            table.add_row(row.name, str(row.pairs), *numbers)
        console.show(table)
        for mark, lines in (("problem", report.problems), ("fix", report.advice), ("note", report.remarks)):
            for line in lines:
                console.result(f"  {mark}: {line}")

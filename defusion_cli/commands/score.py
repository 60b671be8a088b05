"""``defusion score``: parse, pair, score, tell."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defusion_cli import console
from defusion_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from defusion_cli.scoring.metrics import Metric
    from defusion_cli.scoring.pairs import Pairing
    from defusion_cli.scoring.protocols import Protocol
    from defusion_cli.scoring.report import Figure, Report
    from defusion_cli.scoring.run import Row

_STYLES = ("table", "markdown", "latex")


def score(
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="Folder of restored pictures.")] = None,
    ref: Annotated[
        Path | None, typer.Argument(metavar="REF", help="Folder of the true ones; not needed for niqe and the like.")
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(metavar="NAMES", help="psnr, ssim, lpips, fid, mae, or any name that pyiqa knows."),
    ] = "psnr,ssim,lpips",
    protocol: Annotated[
        str,
        typer.Option(metavar="pyiqa|rgb|y|paper", help="Colours, range, window and crop; paper: as usual for --set."),
    ] = "pyiqa",
    set_: Annotated[
        str | None, typer.Option("--set", metavar="NAME", help="Data set: how its files pair, what its papers compute.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The degraded pictures: adds their scores and the gain.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything, picture by picture, as JSON.")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one line a picture into FILE.")] = None,
    style: Annotated[str, typer.Option(metavar="table|markdown|latex", help="Form of the printed table.")] = "table",
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1; without it, a GPU if there is one.")
    ] = None,
) -> None:
    """Compare restored photographs with the true ones.

    Pictures are paired by name and never resized. What every number means is printed beside it.

    Example: defusion score --metrics psnr,ssim,lpips restored/ true/
    """
    from defusion_cli.scoring.metrics import find_metrics
    from defusion_cli.scoring.pairs import NAMINGS, STEM, pair_folders
    from defusion_cli.scoring.protocols import find_protocol

    if out is None:
        raise UsageError("OUT is needed.", fix="defusion score restored/ true/")
    if style not in _STYLES:
        raise UsageError("--style has no such choice.", found=style, accepted=", ".join(_STYLES))
    data_set = _known_set(set_)
    settled = find_protocol(protocol, data_set)
    wanted = find_metrics(metrics, settled, ref is not None)
    pairing = pair_folders(out, ref, baseline, NAMINGS.get(data_set or "", STEM))
    report = _score(pairing, wanted, settled, device)
    if csv is not None:
        _write_csv(csv, report)
    _print(report, json, style)
    raise typer.Exit(report.exit_code)


def _known_set(name: str | None) -> str | None:
    from defusion_cli.errors import did_you_mean
    from defusion_cli.scoring.pairs import NAMINGS
    from defusion_cli.scoring.protocols import PAPER

    known = sorted({*NAMINGS, *PAPER})
    if name is None or name.lower() in known:
        return name.lower() if name else None
    near = did_you_mean(name, known)
    fix = f"did you mean {near}?" if near else None
    raise UsageError("--set names no data set.", found=name, accepted=", ".join(known), fix=fix)


def _score(pairing: Pairing, metrics: tuple[Metric, ...], protocol: Protocol, device: str | None) -> Report:
    from defusion_cli.scoring.report import Report, summarise
    from defusion_cli.scoring.run import score_pairs

    place = "cpu"
    if any(metric.kind != "pixels" for metric in metrics):
        from defusion_cli.scoring.engine import pick_device

        place = pick_device(device)
    start = time.monotonic()
    with console.progress("Scoring", len(pairing.pairs), "pairs") as bar:

        def watch(row: Row) -> None:
            if row.problem is not None:
                bar.note(f"{row.pair.name}: not scored. {row.problem}")
            bar.advance()

        rows = score_pairs(pairing.pairs, metrics, protocol.crop, place, watch)
    figures, warnings = [], []
    for metric in metrics:
        if metric.kind == "set":
            figure, warning = _score_set(rows, metric, place)
            warnings += [warning] if warning else []
        else:
            figure = summarise(metric, rows)
        figures.append(figure)
    report = Report(
        protocol, tuple(figures), tuple(rows), pairing.orphans, pairing.unused, pairing.rule, place, tuple(warnings)
    )
    _comment(report, time.monotonic() - start)
    return report


def _score_set(rows: list[Row], metric: Metric, device: str) -> tuple[Figure, str | None]:
    from defusion_cli.scoring import sets
    from defusion_cli.scoring.fid import small_sample_warning
    from defusion_cli.scoring.report import summarise_set

    pairs = [row.pair for row in rows if row.problem is None]
    if not pairs:
        raise DataError(f"No pair is left for {metric.name}.", found=f"{len(rows)} pairs that cannot be scored")
    with console.progress(metric.name, sets.work(pairs, metric) or None, "pictures") as bar:
        value, baseline = sets.score_set(pairs, metric, device, bar.advance)
    warning = small_sample_warning(len(pairs)) if "fid" in metric.name else None
    return summarise_set(metric, value, len(pairs), baseline), warning


def _comment(report: Report, seconds: float) -> None:
    """What a person should know beside the numbers, on stderr."""
    for orphan in report.orphans:
        console.note(f"{orphan}: not scored")
    if report.unused:
        console.note(f"{report.unused} pictures of REF were not compared with anything")
    notes: dict[str, list[str]] = {}
    for row in report.rows:
        for note in row.notes:
            notes.setdefault(note, []).append(row.pair.name)
    for note, names in notes.items():
        console.note(f"{len(names)} pictures ({names[0]}{', …' if len(names) > 1 else ''}): {note}")
    for warning in report.warnings:
        console.note(f"warning: {warning}")
    counts = {"scored": len(report.rows) - report.failed, "failed": report.failed, "unpaired": len(report.orphans)}
    console.summary(counts, seconds)


def _print(report: Report, json: bool, style: str) -> None:
    from defusion_cli.scoring.report import as_object, latex, markdown, table_rows

    heads, cells = table_rows(report)
    title = f"protocol {report.protocol.name} ({report.protocol.source}); pairs: {report.rule}"
    if json:
        console.print_json("defusion-score", as_object(report))
    elif style == "table":
        _show_table(heads, cells, title)
    else:
        console.result((markdown if style == "markdown" else latex)(heads, cells))
        console.note(title)


def _show_table(heads: list[str], cells: list[list[str]], caption: str) -> None:
    from rich.table import Table

    table = Table(caption=caption, caption_justify="left")
    for head in heads:
        table.add_column(head, justify="right" if head in ("N", "input", "gain") else "left")
    for line in cells:
        table.add_row(*line)
    console.show(table)


def _write_csv(path: Path, report: Report) -> None:
    from defusion_cli.files import write_atomically
    from defusion_cli.scoring.report import as_csv

    write_atomically(path, as_csv(report).encode())
    console.note(f"{path} written")

"""``defusion score``: parse, pair, score, tell."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from defusion_cli import console
from defusion_cli.commands.plugin_options import complete_metrics
from defusion_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from defusion_cli.scoring.metrics import Metric
    from defusion_cli.scoring.pairs import Pairing
    from defusion_cli.scoring.protocols import Protocol
    from defusion_cli.scoring.report import Figure, Report
    from defusion_cli.scoring.rows import Row, Rows
    from defusion_cli.scoring.sets import SetScorer

_STYLES = ("table", "markdown", "latex")


def score(
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="Folder of restored pictures, or one.")] = None,
    ref: Annotated[
        Path | None,
        typer.Argument(metavar="REF", help="Folder of the true ones, or one; not needed for niqe and the like."),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            autocompletion=complete_metrics,
            help="psnr, psnrb, ssim, lpips, fid, mae, or any name that pyiqa knows; list shows all.",
        ),
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
    table6: Annotated[
        bool, typer.Option("--table6", help="Set FID and LPIPS beside Table 6 of Defusion's supplement.")
    ] = False,
    task: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="One task of Table 6, as deraining; without it, that of --set or all."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Draw the gain per picture, and the best and worst five.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE.html", help="Write a page: every pair to compare, worst first."),
    ] = None,
    style: Annotated[str, typer.Option(metavar="table|markdown|latex", help="Form of the printed table.")] = "table",
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1; without it, a GPU if there is one.")
    ] = None,
) -> None:
    """Compare restored photographs with the true ones.

    Pictures are paired by name and never resized. What every number means is printed beside it.

    Example: defusion score --metrics psnr,ssim,lpips restored/ true/
    """
    from defusion_cli.files import require_writable
    from defusion_cli.scoring.metrics import find_metrics
    from defusion_cli.scoring.pairs import pair_folders
    from defusion_cli.scoring.protocols import find_protocol, find_set
    from defusion_cli.scoring.table6 import find_tasks

    if metrics == "list":
        _list_metrics(find_protocol(protocol, None), json, style)
        return
    if out is None:
        raise UsageError("OUT is needed.", fix="defusion score restored/ true/")
    if style not in _STYLES:
        raise UsageError("--style has no such choice.", found=style, accepted=", ".join(_STYLES))
    spec, data_set = find_set(set_) if set_ else (None, None)
    settled = find_protocol(protocol, data_set)
    if spec and spec.centre_crop:
        settled = settled.with_larger_references()
    tasks = find_tasks(task, data_set) if table6 or task else ()
    wanted = find_metrics(metrics, settled, ref is not None)
    _check_request(wanted, baseline, ref, plot, bool(tasks))
    if csv is not None:
        _check_table_name(csv)
    if page is not None:
        from defusion_cli.report.page import check_page_name

        check_page_name(page)
    for made in filter(None, (csv, plot, page)):
        require_writable(made.parent)  # said before anything is computed
    pairing = pair_folders(out, ref, baseline, spec)
    report = _score(pairing, wanted, settled, device)
    _print(report, json, style, tasks)
    if csv is not None:
        _write_csv(csv, report)
    if plot is not None:
        _draw(plot, report)
    if page is not None:
        from defusion_cli.commands.report_pages import write_score_page

        write_score_page(page, report)
        console.note(f"{page} written")
    raise typer.Exit(report.exit_code)


def _list_metrics(protocol: Protocol, json: bool, style: str) -> None:
    from defusion_cli.scoring.metrics import all_metrics

    found = all_metrics(protocol)
    if json:
        keys = ("name", "definition", "lower_better", "needs_reference")
        console.print_json("defusion-metrics", {"metrics": [{key: getattr(m, key) for key in keys} for m in found]})
        return
    cells = [
        [m.name, "lower" if m.lower_better else "higher", "yes" if m.needs_reference else "no", m.definition]
        for m in found
    ]
    _table(["metric", "better", "needs REF", "what is computed"], cells, style, f"protocol {protocol.name}")


def _check_request(
    metrics: tuple[Metric, ...], baseline: Path | None, ref: Path | None, plot: Path | None, table6: bool
) -> None:
    """Refuse, before any work, what could not be shown at its end."""
    if baseline is not None and ref is None:
        raise UsageError("--baseline needs the true pictures, too.", fix="defusion score OUT REF --baseline DEGRADED")
    if plot is not None and (baseline is None or all(metric.kind == "set" for metric in metrics)):
        raise UsageError(
            "--plot draws the gain of every picture.",
            accepted="a --baseline, and a metric of single pictures",
            fix="defusion score OUT REF --baseline DEGRADED --plot FOLDER",
        )
    if table6 and not any(metric.name.partition("-")[0] in ("fid", "lpips") for metric in metrics):
        raise UsageError("Table 6 shows FID and LPIPS only.", fix="--metrics fid,lpips")


def _score(pairing: Pairing, metrics: tuple[Metric, ...], protocol: Protocol, device: str | None) -> Report:
    from defusion_cli.scoring.report import Report, summarise
    from defusion_cli.scoring.run import score_pairs
    from defusion_cli.scoring.sets import prepare

    place = "cpu"
    if any(metric.kind != "pixels" for metric in metrics):
        from defusion_cli.scoring.engine import pick_device

        place = pick_device(device)
    scorers = {metric: prepare(metric, place) for metric in metrics if metric.kind == "set"}
    start = time.monotonic()
    with console.progress("Scoring", len(pairing.pairs), "pairs") as bar:

        def watch(row: Row) -> None:
            if row.problem is not None:
                bar.note(f"{row.pair.name}: not scored. {row.problem}")
            bar.advance()

        rows = score_pairs(pairing.pairs, metrics, protocol, place, watch)
    figures, warnings = [], []
    for metric in metrics:
        if metric.kind == "set":
            figure, warning = _score_set(rows, scorers[metric], protocol)
            warnings += [warning] if warning and warning not in warnings else []
        else:
            figure = summarise(metric, rows)
        figures.append(figure)
    report = Report(
        protocol, tuple(figures), rows, pairing.orphans, pairing.unused, pairing.rule, place, tuple(warnings)
    )
    _comment(report, time.monotonic() - start)
    return report


def _score_set(rows: Rows, scorer: SetScorer, protocol: Protocol) -> tuple[Figure, str | None]:
    from defusion_cli.scoring import sets
    from defusion_cli.scoring.fid import small_sample_warning
    from defusion_cli.scoring.report import summarise_set

    metric, pairs = scorer.metric, [row.pair for row in rows if row.problem is None]
    if not pairs:
        raise DataError(f"No pair is left for {metric.name}.", found=f"{len(rows)} pairs that cannot be scored")
    with console.progress(metric.name, sets.work(pairs, metric) or None, "pictures") as bar:
        value, baseline = sets.score_set(pairs, scorer, bar.advance, protocol.crop)
    warning = small_sample_warning(len(pairs)) if "fid" in metric.name else None
    return summarise_set(metric, value, len(pairs), baseline), warning


def _pictures(count: int) -> str:
    return f"{count} picture{'s' * (count != 1)}"


def _comment(report: Report, seconds: float) -> None:
    """What a person should know beside the numbers, on stderr."""
    for orphan in report.orphans:
        console.note(f"{orphan}: not scored")
    if report.unused:
        console.note(f"{_pictures(report.unused)} of REF not compared with anything")
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for row in report.rows:
        counts.update(row.notes)
        for note in row.notes:
            first.setdefault(note, row.pair.name)
    for note, count in counts.items():
        console.note(f"{_pictures(count)} ({first[note]}{', …' if count > 1 else ''}): {note}")
    for warning in report.warnings:
        console.note(f"warning: {warning}")
    done = {"scored": len(report.rows) - report.failed, "failed": report.failed, "unpaired": len(report.orphans)}
    console.summary(done, seconds)


def _print(report: Report, json: bool, style: str, tasks: Sequence[str]) -> None:
    from defusion_cli.scoring.report import as_object, table_rows
    from defusion_cli.scoring.table6 import FLAG, TASKS, as_record, rows_beside

    if json:
        console.print_json("defusion-score", {**as_object(report), **as_record(tasks)})
        return
    heads, cells = table_rows(report)
    _table(heads, cells, style, f"protocol {report.protocol.name} ({report.protocol.source}); pairs: {report.rule}")
    for task in tasks:
        heads, cells = rows_beside(task, report.figures)
        _table(
            heads, cells, style, f"{TASKS[task].title} ({TASKS[task].data_set}), Table 6 of the supplement. † {FLAG}"
        )


def _table(heads: list[str], cells: list[list[str]], style: str, caption: str) -> None:
    from defusion_cli.scoring.report import latex, markdown

    if style == "table":
        _show_table(heads, cells, caption)
    else:
        console.result((markdown if style == "markdown" else latex)(heads, cells))
        console.result(("\n%s\n" if style == "markdown" else "%% %s") % caption)


def _draw(folder: Path, report: Report) -> None:
    from defusion_cli.scoring.plot import draw_gains

    for path in draw_gains(report, folder):
        console.note(f"{path} written")


def _show_table(heads: list[str], cells: list[list[str]], caption: str) -> None:
    from rich.table import Table

    table = Table(caption=caption, caption_justify="left")
    for head, column in zip(heads, zip(*cells, strict=True), strict=True):
        words = head in ("definition", "what is computed")
        whole = None if words else max(map(len, [head, *column]))  # numbers and names are not broken
        side: Literal["left", "right"] = "right" if head in ("N", "input", "gain") else "left"
        table.add_column(head, justify=side, min_width=whole, no_wrap=not words)
    for line in cells:
        table.add_row(*line)
    console.show(table)


def _check_table_name(path: Path) -> None:
    from defusion_cli.images import FORMATS

    if path.suffix.lower() in FORMATS:
        fix = f"--csv {path.with_suffix('.csv')}"
        raise UsageError(f"{path} is called like a picture.", accepted="the name of a table", fix=fix)


def _write_csv(path: Path, report: Report) -> None:
    from defusion_cli.files import staged
    from defusion_cli.scoring.report import csv_lines

    with staged(path) as file:
        file.writelines(line.encode() for line in csv_lines(report))
    console.note(f"{path} written")

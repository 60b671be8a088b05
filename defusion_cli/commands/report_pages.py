"""The pages of ``restore --report`` and ``score --report``: which pictures, numbers and facts stand on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from defusion_cli import console
from defusion_cli.errors import DataError, DefusionError
from defusion_cli.images import read_pixels
from defusion_cli.report import Column, Entry, Page, write_page

if TYPE_CHECKING:
    from defusion_cli.restore.run import Outcome
    from defusion_cli.scoring.metrics import Metric
    from defusion_cli.scoring.pairs import Pair
    from defusion_cli.scoring.protocols import Protocol
    from defusion_cli.scoring.report import Figure, Report
    from defusion_cli.scoring.rows import Row

_METRICS = "psnr,ssim"
_LABELS = {"before": "damaged", "after": "restored", "true": "true"}
_PAIRS = (("before", "after"), ("true", "after"), ("before", "true"))


def write_restore_page(
    path: Path,
    outcomes: Sequence[Outcome],
    label: str,
    reference: Path | None,
    recognised: Mapping[str, tuple[str, float]] | None = None,
) -> Path | None:
    """The page of a run of ``defusion restore``; returns the folder of pictures beside it, if there had to be one.

    Parameters
    ----------
    label
        What the model was told to remove.
    reference
        The true picture, or the folder of the true ones, named like the photographs; None for no scores.
    recognised
        By the name of the job: what was recognised in that photograph, and the confidence in [0, 1].
    """
    rows = _scores(outcomes, reference) if reference else {}
    metrics = _metrics() if reference else ()
    columns = [
        *(column for metric in metrics for column in _metric_columns(metric, gains=True)),
        Column("change", "change", "/255", 2, worst="high", help="Mean absolute difference of damaged and restored"),
        Column("shown", "to remove", number=False, help="What the model was told to remove"),
        *([Column("confidence", "confidence", "%", 0, help="That this is the damage")] if recognised else []),
        Column("size", "megapixels", "MP", 2, worst="high"),
        Column("seconds", "time", "s", 2, worst="high", help="Of computing, without reading and writing"),
    ]
    states = {state: sum(outcome.state == state for outcome in outcomes) for state in ("restored", "skipped", "failed")}
    words = {"restored": "restored", "skipped": "done before", "failed": "failed"}
    facts = [("pictures", ", ".join(f"{n} {words[state]}" for state, n in states.items() if n)), ("to remove", label)]
    facts += _means(metrics, list(rows.values()))
    busy = [outcome for outcome in outcomes if outcome.size]
    if busy:
        megapixels = sum(outcome.size[0] * outcome.size[1] for outcome in busy if outcome.size) / 1e6
        seconds = sum(outcome.seconds for outcome in busy)
        facts.append(("time", f"{console.duration(seconds)} for {megapixels:.3g} megapixels"))
    page = Page(
        title="Restored photographs",
        subtitle="Drag the line, or give it the focus and use the arrow keys; double-click to enlarge.",
        facts=facts,
        columns=columns,
        labels=_LABELS,
        pairs=_PAIRS,
        first=metrics[0].name if metrics else "change",
    )
    return _write(path, page, _restored(outcomes, label, rows, metrics, recognised or {}), len(outcomes))


def _restored(
    outcomes: Sequence[Outcome],
    label: str,
    rows: Mapping[str, Row],
    metrics: Sequence[Metric],
    recognised: Mapping[str, tuple[str, float]],
) -> Iterator[Entry]:
    for outcome in outcomes:
        job, row = outcome.job, rows.get(outcome.job.name)
        values: dict[str, float | str | None] = {"shown": label}
        if job.name in recognised:
            shown, confidence = recognised[job.name]
            values = {"shown": shown, "confidence": 100 * confidence}
        if outcome.size:
            values |= {"size": outcome.size[0] * outcome.size[1] / 1e6, "seconds": outcome.seconds}
        if outcome.state == "failed":
            yield Entry(job.name, {}, values, str(outcome.problem))
            continue
        pictures, notes = {"before": job.source, "after": job.target}, ["done before"] * (outcome.state == "skipped")
        if row is not None:
            values |= _row_values(row, metrics)
            notes += [row.problem.failed] if row.problem else row.notes
            if row.pair.ref and not row.problem:
                pictures["true"] = row.pair.ref
        yield Entry(job.name, pictures, values | {"change": _change(job.source, job.target)}, notes=tuple(notes))


def _change(before: Path, after: Path) -> float | None:
    """Mean absolute difference in steps of 8 bits; None for files that have gone or changed since."""
    try:
        first, second = read_pixels(before), read_pixels(after)
    except DefusionError:
        return None
    return float(np.abs(first - second).mean() * 255) if first.shape == second.shape else None


def _metrics() -> tuple[Metric, ...]:
    from defusion_cli.scoring.metrics import find_metrics

    return find_metrics(_METRICS, _protocol(), True)


def _protocol() -> Protocol:
    from defusion_cli.scoring.protocols import find_protocol

    return find_protocol("pyiqa", None)


def _scores(outcomes: Sequence[Outcome], reference: Path) -> dict[str, Row]:
    """Scores of damaged and restored pictures by name, for those that have a true one."""
    from defusion_cli.scoring.pairs import Pair
    from defusion_cli.scoring.run import score_pairs

    find = _finder(reference)
    pairs: list[Pair] = []
    for outcome in outcomes:
        job, truth = outcome.job, find(Path(outcome.job.name))
        if truth is not None and outcome.state != "failed":
            pairs.append(Pair(job.name, job.target, truth, job.source))
    lonely = len(outcomes) - len(pairs)
    if lonely:
        console.note(f"{lonely} of {len(outcomes)} pictures have no scores: no partner in {reference}, or failed.")
    with console.progress("Scoring", len(pairs), "pairs") as bar:
        rows = score_pairs(pairs, _metrics(), _protocol(), "cpu", lambda row: bar.advance())
    return {row.pair.name: row for row in rows}


def check_reference(reference: Path) -> None:
    """Raise `DataError` unless there is such a file, or a folder of pictures."""
    _finder(reference)


def _finder(reference: Path) -> Callable[[Path], Path | None]:
    """From the name of a photograph to its true picture: the same path but for the suffix, else the only such name."""
    from defusion_cli.images import list_images
    from defusion_cli.scoring.pairs import stem_key

    if reference.is_file():
        return lambda name: reference
    if not reference.is_dir():
        raise DataError(f"{reference} does not exist.", accepted="--reference with the true picture, or a folder")
    by_path: dict[str, Path] = {}
    by_name: dict[str, list[Path]] = {}
    for name in list_images(reference):
        by_path[stem_key(name.as_posix())] = reference / name
        by_name.setdefault(name.stem, []).append(reference / name)

    def find(name: Path) -> Path | None:
        alike = by_name.get(name.stem, [])
        return by_path.get(stem_key(name.as_posix())) or (alike[0] if len(alike) == 1 else None)

    return find


def write_score_page(path: Path, report: Report) -> Path | None:
    """The page of a run of ``defusion score``; returns the folder of pictures beside it, if there had to be one."""
    gains = any(row.baseline for row in report.rows)
    single = [figure.metric for figure in report.figures if figure.metric.kind != "set"]
    page = Page(
        title="Scores",
        subtitle=f"Protocol {report.protocol.name} ({report.protocol.source}); pairs: {report.rule}",
        facts=[("pictures", str(len(report.rows))), *(_figure_fact(figure) for figure in report.figures)],
        columns=[column for metric in single for column in _metric_columns(metric, gains)],
        labels=_LABELS | {"after": "scored" if not gains else "restored"},
        pairs=_PAIRS,
        first=single[0].name if single else None,
    )
    return _write(path, page, (_scored(row, single) for row in report.rows), len(report.rows))


def _scored(row: Row, metrics: Sequence[Metric]) -> Entry:
    pair: Pair = row.pair
    pictures = {"before": pair.baseline, "after": pair.out, "true": pair.ref}
    there = {view: file for view, file in pictures.items() if file is not None}
    if row.problem:
        return Entry(pair.name, {}, problem=str(row.problem))
    return Entry(pair.name, there, _row_values(row, metrics), notes=row.notes)


def _write(path: Path, page: Page, entries: Iterator[Entry], count: int) -> Path | None:
    with console.progress("Report", count, "pictures") as bar:
        folder = write_page(path, page, entries, bar.advance)
    if folder is not None:
        console.note(f"The pictures of {path} lie in {folder}: keep the two together.")
    return folder


def _metric_columns(metric: Metric, gains: bool) -> list[Column]:
    worst = "high" if metric.lower_better else "low"
    column = Column(metric.name, metric.name, metric.unit, metric.decimals, worst=worst, help=metric.definition)  # type: ignore[arg-type]
    if not gains:
        return [column]
    gain = replace(column, key=_gain_key(metric.name), title=f"{metric.name} gain", worst="low")
    return [column, replace(gain, help="By how much the restored picture is better than the damaged one")]


def _gain_key(name: str) -> str:
    return f"{name}_gain"


def _row_values(row: Row, metrics: Sequence[Metric]) -> dict[str, float | str | None]:
    values: dict[str, float | str | None] = dict(row.scores)
    for metric in metrics:
        score, base = row.scores.get(metric.name), row.baseline.get(metric.name)
        if score is not None and base is not None:
            values[_gain_key(metric.name)] = metric.gain(score, base)
    return values


def _means(metrics: Sequence[Metric], rows: Sequence[Row]) -> list[tuple[str, str]]:
    from defusion_cli.scoring.report import summarise

    figures = [summarise(metric, rows) for metric in metrics]
    return [_figure_fact(figure) for figure in figures if figure.count]


def _figure_fact(figure: Figure) -> tuple[str, str]:
    """Name and ``31.20 ± 0.35 (input 28.10, gain +3.10)``."""
    metric, digits = figure.metric, figure.metric.decimals
    text = "–" if math.isnan(figure.mean) else f"{figure.mean:.{digits}f}"
    text += "" if figure.error is None else f" ± {figure.error:.{digits}f}"
    if figure.gain is not None and figure.baseline is not None:
        text += f" (input {figure.baseline:.{digits}f}, gain {figure.gain:+.{digits}f})"
    return f"mean {metric.name} {'↓' if metric.lower_better else '↑'}", text

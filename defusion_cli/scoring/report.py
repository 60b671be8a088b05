"""What was measured: means with standard errors, as a table of words, as one object, and as rows."""

from __future__ import annotations

import csv
import io
import math
import platform
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from defusion_cli.scoring.metrics import Metric
from defusion_cli.scoring.protocols import Protocol
from defusion_cli.scoring.rows import Row


@dataclass(frozen=True)
class Figure:
    """A number with what is needed to believe it.

    Attributes
    ----------
    metric
        What was measured.
    mean
        Over the pairs; for metrics of sets the number itself.
    error
        Standard error of the mean; None for metrics of sets and single pairs.
    count
        Number of pairs (N).
    baseline, gain, gain_error
        The input's own mean; by how much the restoration is better (positive is better, whatever the metric's
        direction), with the standard error of the mean of the pairs' differences. None without a baseline.
    """

    metric: Metric
    mean: float
    error: float | None
    count: int
    baseline: float | None = None
    gain: float | None = None
    gain_error: float | None = None


@dataclass(frozen=True)
class Report:
    """All that a run found, and how."""

    protocol: Protocol
    figures: tuple[Figure, ...]
    rows: Sequence[Row]
    orphans: tuple[str, ...]
    unused: int
    rule: str
    device: str
    warnings: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """Number of pairs without scores."""
        return sum(row.problem is not None for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0, or 3 if something was left out of the means."""
        return 3 if self.failed or self.orphans else 0


def summarise(metric: Metric, rows: Iterable[Row]) -> Figure:
    """The figure of a metric of pairs over all `rows` that have scores."""
    scores, baselines = array("d"), array("d")
    for row in rows:
        if metric.name in row.scores:
            scores.append(row.scores[metric.name])
            if row.baseline:
                baselines.append(row.baseline[metric.name])
    mean, error = mean_and_error(scores)
    if not baselines:
        return Figure(metric, mean, error, len(scores))
    gains = array("d", map(metric.gain, scores, baselines))
    return Figure(metric, mean, error, len(scores), mean_and_error(baselines)[0], *mean_and_error(gains))


def summarise_set(metric: Metric, value: float, count: int, baseline: float | None) -> Figure:
    """The figure of a metric of sets."""
    if baseline is None:
        return Figure(metric, value, None, count)
    return Figure(metric, value, None, count, baseline, metric.gain(value, baseline))


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and its standard error s/√N with s from N − 1; NaN for no value, no error for one."""
    count = len(values)
    if count == 0:
        return math.nan, None
    mean = math.fsum(values) / count if all(map(math.isfinite, values)) else sum(values) / count
    if count == 1 or not math.isfinite(mean):
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return mean, math.sqrt(variance / count)


def table_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table of figures, as text."""
    gains = any(figure.gain is not None for figure in report.figures)
    heads = ["metric", "mean ± standard error", "N", *(["input", "gain"] if gains else []), "definition"]
    cells = []
    for figure in report.figures:
        metric = figure.metric
        middle = []
        if gains:
            base = "–" if figure.baseline is None else f"{figure.baseline:.{metric.decimals}f}"
            middle = [base, _with_error(figure.gain, figure.gain_error, metric.decimals, sign="+")]
        cells.append(
            [
                metric.name + (" ↓" if metric.lower_better else " ↑"),
                _with_error(figure.mean, figure.error, metric.decimals),
                str(figure.count),
                *middle,
                metric.definition,
            ]
        )
    return heads, cells


def _with_error(value: float | None, error: float | None, decimals: int, sign: str = "") -> str:
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:{sign}.{decimals}f}"
    return text if error is None else f"{text} ± {error:.{decimals}f}"


def markdown(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table in GitHub's Markdown."""
    lines = [[_escaped(cell, {"|": r"\|"}) for cell in line] for line in (heads, *cells)]
    rule = ["---" for _ in heads]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


_LATEX = {
    "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "±": r"$\pm$", "↓": r"$\downarrow$", "↑": r"$\uparrow$",
    "×": r"$\times$", "σ": r"$\sigma$", "–": "--",
}  # fmt: skip


def latex(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A tabular for LaTeX with booktabs."""
    lines = [" & ".join(_escaped(cell, _LATEX) for cell in line) + r" \\" for line in (heads, *cells)]
    body = [r"\begin{tabular}{" + "l" * len(heads) + "}", r"\toprule", lines[0], r"\midrule", *lines[1:]]
    return "\n".join([*body, r"\bottomrule", r"\end{tabular}"])


def _escaped(text: str, by: dict[str, str]) -> str:
    return "".join(by.get(letter, letter) for letter in text)


def as_object(report: Report) -> dict[str, Any]:
    """The whole report for JSON; "pairs" is an iterator, since there may be very many."""
    return {
        "protocol": asdict(report.protocol),
        "pairing": {"rule": report.rule, "orphans": list(report.orphans), "unused_references": report.unused},
        "metrics": {figure.metric.name: _figure_object(figure) for figure in report.figures},
        "pairs": (_row_object(row) for row in report.rows),
        "failed": report.failed,
        "warnings": list(report.warnings),
        "device": report.device,
        "versions": _versions(),
    }


def _figure_object(figure: Figure) -> dict[str, Any]:
    found = {
        "definition": figure.metric.definition,
        "lower_is_better": figure.metric.lower_better,
        "n": figure.count,
        "mean": figure.mean,
        "standard_error": figure.error,
    }
    if figure.metric.fid_mode:
        found["mode"] = figure.metric.fid_mode
    if figure.gain is not None:
        found |= {"baseline": figure.baseline, "gain": figure.gain, "gain_standard_error": figure.gain_error}
    return found


def _row_object(row: Row) -> dict[str, Any]:
    pair = row.pair
    found: dict[str, Any] = {"name": pair.name, "out": str(pair.out), "ref": str(pair.ref) if pair.ref else None}
    found["scores"] = row.scores
    if pair.baseline:
        found |= {"baseline": str(pair.baseline), "baseline_scores": row.baseline}
    if row.problem is not None:
        found["problem"] = str(row.problem)
    if row.notes:
        found["notes"] = list(row.notes)
    return found


def csv_lines(report: Report) -> Iterator[str]:
    """One line a pair: name, scores, scores of the input, problem."""
    names = [figure.metric.name for figure in report.figures if figure.metric.kind != "set"]
    based = any(row.baseline for row in report.rows)
    heads = ["name", *names, *(f"{name}_baseline" for name in names if based), "problem"]
    yield _csv_line(heads)
    for row in report.rows:
        bases = [row.baseline.get(name, "") for name in names] if based else []
        problem = row.problem.failed if row.problem else ""
        yield _csv_line([row.pair.name, *(row.scores.get(name, "") for name in names), *bases, problem])


def _csv_line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("defusion", "pyiqa", "torch", "numpy", "scipy", "pillow"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found

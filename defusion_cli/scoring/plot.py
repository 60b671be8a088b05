"""Pictures of a report: the gain of every picture, and the best and the worst of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from defusion_cli.errors import DefusionError
from defusion_cli.files import write_atomically
from defusion_cli.images import read_pixels, to_uint8, write_image
from defusion_cli.scoring.metrics import Metric
from defusion_cli.scoring.report import Report
from defusion_cli.scoring.rows import Row

_EXTREMES = 5
_CELL_PX, _GAP_PX, _TITLE_PX = 320, 8, 22


def draw_gains(report: Report, folder: Path) -> list[Path]:
    """Write ``gain.png`` and ``best-and-worst.png`` into `folder`.

    Parameters
    ----------
    report
        Of a run with a baseline.

    Returns
    -------
    list of Path
        The files written; none if no pair has a gain.
    """
    metrics = [figure.metric for figure in report.figures if figure.metric.kind != "set"]
    if not any(row.baseline for row in report.rows):
        return []
    scatter, sheet = folder / "gain.png", folder / "best-and-worst.png"
    write_atomically(scatter, _scatter(report.rows, metrics))
    best, worst = _extremes(report.rows, metrics[0])
    labels = [f"best {index}" for index in range(1, len(best) + 1)]
    labels += [f"worst {index}" for index in range(len(worst), 0, -1)]
    write_image(sheet, _sheet(labels, [*best, *worst], metrics[0]))
    return [scatter, sheet]


def gain(row: Row, metric: Metric) -> float:
    """By how much the picture is better than its input."""
    return metric.gain(row.scores[metric.name], row.baseline[metric.name])


def _extremes(rows: Sequence[Row], metric: Metric) -> tuple[list[Row], list[Row]]:
    """Those with the largest gains, and of the others those with the smallest; both from the larger gains down."""
    places = [place for place, row in enumerate(rows) if row.baseline]
    places.sort(key=lambda place: gain(rows[place], metric), reverse=True)
    best, others = places[:_EXTREMES], places[_EXTREMES:]
    return [rows[place] for place in best], [rows[place] for place in others[-_EXTREMES:]]


def _scatter(rows: Sequence[Row], metrics: Sequence[Metric]) -> bytes:
    """One panel a metric: score of the input against the gain, as PNG."""
    # The figure is made without pyplot: no display is looked for, and no global state is left.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(metrics), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for index, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), index + 1)
        points = np.array([(row.baseline[metric.name], gain(row, metric)) for row in rows if row.baseline])
        axes.scatter(points[:, 0], points[:, 1], s=14)
        axes.axhline(0, color="black", linewidth=0.8)
        unit = f" in {metric.unit}" if metric.unit else ""
        axes.set_xlabel(f"{metric.name} of the input{unit}")
        axes.set_ylabel(f"gain of {metric.name}{unit} (up is better)")
        axes.set_title(f"N = {len(points)}")
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()


def _sheet(labels: Sequence[str], rows: Sequence[Row], metric: Metric) -> NDArray[np.float32]:
    """Input, restored and true picture side by side, one row each, best first."""
    font = ImageFont.load_default(14)
    strips = []
    for label, row in zip(labels, rows, strict=True):
        paths = (row.pair.baseline, row.pair.out, row.pair.ref)
        try:
            cells = [_reduced(read_pixels(path)) for path in paths if path is not None]
        except DefusionError:
            continue  # gone since it was scored
        width = len(cells) * (_CELL_PX + _GAP_PX) + _GAP_PX
        strip = PilImage.new("RGB", (width, _TITLE_PX + max(cell.height for cell in cells) + _GAP_PX), "white")
        values = f"{metric.name} {row.baseline[metric.name]:.4g} to {row.scores[metric.name]:.4g}"
        title = f"{label}, {row.pair.name}: {values}"
        ImageDraw.Draw(strip).text((_GAP_PX, 2), f"{title} (input, restored, true)", "black", font)
        for index, cell in enumerate(cells):
            strip.paste(cell, (_GAP_PX + index * (_CELL_PX + _GAP_PX), _TITLE_PX))
        strips.append(np.asarray(strip))
    sheet: NDArray[np.float32] = np.concatenate(strips).astype(np.float32) / np.float32(255)
    return sheet


def _reduced(pixels: NDArray[np.float32]) -> PilImage.Image:
    scale = min(1.0, _CELL_PX / max(pixels.shape[:2]))
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    return PilImage.fromarray(to_uint8(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)))

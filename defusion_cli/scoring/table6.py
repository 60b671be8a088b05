"""Table 6 of the supplement of Defusion (CVPR 2025), FID and LPIPS on six data sets, and one more row.

The supplement names neither tool, network, mode, crop nor list of pictures behind these numbers. What is measured here
is therefore set beside them, not among them: the difference is flagged wherever both are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from defusion_cli.errors import UsageError, did_you_mean
from defusion_cli.scoring.report import Figure

OURS = "measured here"

FLAG = (
    "The supplement does not say how it computed FID and LPIPS (tool, network, mode, crops, list of pictures): "
    "compare the last row with the others only as an orientation."
)


@dataclass(frozen=True)
class Entry:
    """One row: FID and LPIPS as printed, None for a dash."""

    method: str
    fid: float | None
    lpips: float | None
    all_in_one: bool = False


@dataclass(frozen=True)
class Task:
    """The rows of one task, in the order of the supplement."""

    title: str
    data_set: str
    entries: tuple[Entry, ...]


def _entries(specific: str, all_in_one: str) -> tuple[Entry, ...]:
    found = []
    for group in (specific, all_in_one):
        for row in group.split(", "):
            method, *values = row.rsplit(maxsplit=2)
            fid, lpips = (None if value == "-" else float(value) for value in values)
            found.append(Entry(method, fid, lpips, group is all_in_one))
    return tuple(found)


TASKS = {
    "motion-deblurring": Task(
        "Motion Deblur",
        "GoPro",
        _entries(
            "MPRNet 10.98 0.091, Restormer 10.63 0.086, Stripformer 9.03 0.079, DiffIR 9.65 0.081",
            "AirNet 9.65 0.081, PromptIR 15.31 0.122, DA-CLIP 17.54 0.131, MPerceiver 10.69 0.089, Defusion 8.73 0.052",
        ),
    ),
    "defocus-deblurring": Task(
        "Defocus Deblur",
        "DPDD",
        _entries(
            "DRBNet 49.04 0.183, Restormer 44.55 0.178, NRKNet 55.23 0.210, FocalNet 48.82 0.210",
            "AirNet 58.82 0.193, PromptIR 52.64 0.197, DA-CLIP 57.43 0.201, MPerceiver 48.22 0.190, "
            "Defusion 20.20 0.066",
        ),
    ),
    "desnowing": Task(
        "Desnowing",
        "Snow100K-L",
        _entries(
            "DesnowNet - -, DDMSNet 3.24 0.096, DRT 8.15 0.135, WeatherDiff 2.81 0.100",
            "AirNet 3.92 0.105, PromptIR 3.79 0.100, DA-CLIP 3.11 0.098, MPerceiver 2.31 0.087, Defusion 0.70 0.094",
        ),
    ),
    "raindrop-removal": Task(
        "Raindrop Removal",
        "RainDrop",
        _entries(
            "AttentGAN 33.33 0.056, Quan et al. 30.56 0.065, IDT 25.54 0.059, UDR-S² 27.17 0.064",
            "AirNet 33.34 0.073, PromptIR 35.75 0.073, DA-CLIP 29.38 0.078, MPerceiver 19.37 0.044, "
            "Defusion 10.91 0.039",
        ),
    ),
    "deraining": Task(
        "Deraining",
        "Rain1400",
        _entries(
            "Uformer 23.31 0.061, Restormer 20.33 0.050, DRSformer 20.06 0.050, UDR-S² 19.89 0.053",
            "AirNet 22.38 0.058, PromptIR 22.59 0.058, DA-CLIP 35.01 0.116, MPerceiver 17.82 0.049, "
            "Defusion 12.93 0.057",
        ),
    ),
    "denoising": Task(
        "Real Denoising",
        "SIDD",
        _entries(
            "MPRNet 49.54 0.200, Uformer 47.18 0.198, Restormer 47.28 0.195, ART 42.38 0.189",
            "AirNet 51.20 0.134, PromptIR 50.52 0.198, DA-CLIP 34.56 0.186, MPerceiver 41.11 0.191, "
            "Defusion 32.77 0.139",
        ),
    ),
}
"""The six tasks by the names that ``--task`` takes."""

_TASK_OF_SET = {
    "gopro": "motion-deblurring",
    "dpdd": "defocus-deblurring",
    "snow100k-l": "desnowing",
    "raindrop": "raindrop-removal",
    "rain1400": "deraining",
    "sidd": "denoising",
}


def find_tasks(name: str | None, data_set: str | None) -> tuple[str, ...]:
    """The task called `name`; without a name that of `data_set`; without either, all six.

    Raises
    ------
    UsageError
        If there is no such task.
    """
    if name is None:
        return (_TASK_OF_SET[data_set],) if data_set in _TASK_OF_SET else tuple(TASKS)
    if name.lower() not in TASKS:
        near = did_you_mean(name.lower(), TASKS)
        fix = f"did you mean {near}?" if near else None
        raise UsageError("--task is none of Table 6.", found=name, accepted=", ".join(TASKS), fix=fix)
    return (name.lower(),)


def rows_beside(task: str, figures: Sequence[Figure]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of one task's table, what was measured in the last row; ① best, ② second best.

    Only the supplement's numbers are ranked against one another; the measured one is marked where it would stand if
    the protocols were the same.
    """
    measured = {figure.metric.name.partition("-")[0]: figure.mean for figure in reversed(figures)}
    entries = list(TASKS[task].entries)
    heads = ["method", "kind", "FID ↓", "LPIPS ↓"]
    columns = [
        _marked([entry.fid for entry in entries], measured.get("fid"), 2),
        _marked([entry.lpips for entry in entries], measured.get("lpips"), 3),
    ]
    names = [*((entry.method, "all in one" if entry.all_in_one else "task specific") for entry in entries), (OURS, "†")]
    return heads, [[*name, *values] for name, *values in zip(names, *columns, strict=True)]


def as_record(tasks: Sequence[str]) -> dict[str, Any]:
    """The published rows of `tasks` for JSON, with the flag; nothing without tasks."""
    if not tasks:
        return {}
    rows = {
        name: {"data_set": TASKS[name].data_set, "rows": [asdict(row) for row in TASKS[name].entries]} for name in tasks
    }
    return {"table6": {"note": FLAG, "tasks": rows}}


def _marked(published: Sequence[float | None], measured: float | None, decimals: int) -> list[str]:
    best = sorted({value for value in published if value is not None})[:2]
    cells = []
    for value in published:
        mark = {0: " ①", 1: " ②"}.get(best.index(value), "") if value in best else ""
        cells.append("-" if value is None else f"{value:.{decimals}f}{mark}")
    if measured is None:
        return [*cells, "–"]
    place = 1 + sum(value < round(measured, decimals) for value in published if value is not None)
    return [*cells, f"{measured:.{decimals}f} (†, place {place})"]

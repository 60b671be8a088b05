"""What a training run leaves to look at: ``metrics.csv``, TensorBoard events and ``curve.png``."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter


class RunLog:
    """Scalars of a run, appended row by row; rank zero only.

    On resuming, rows after `step` are dropped: they belong to work that was lost and is done again.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.csv"
        self._curve = folder / "curve.png"
        self.rows = [row for row in _read(self._path) if row["step"] <= step]
        self._write_all()
        self._events = SummaryWriter(str(folder / "events"), purge_step=step + 1)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Record named scalars at a step."""
        row = {"step": float(step), **{name: float(value) for name, value in values.items()}}
        self.rows.append(row)
        with self._path.open("a", newline="") as file:
            writer = csv.writer(file)
            for name, value in row.items():
                if name != "step":
                    writer.writerow([step, name, repr(value)])
        for name, value in values.items():
            self._events.add_scalar(name, float(value), step)

    def plot(self) -> None:
        """Draw every recorded scalar over the steps into ``curve.png``."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt

        names = sorted({name for row in self.rows for name in row if name != "step"})
        figure, axes = plt.subplots(len(names), 1, figsize=(7, 2 * len(names) + 0.5), sharex=True, squeeze=False)
        for name, axis in zip(names, axes[:, 0], strict=True):
            points = [(row["step"], row[name]) for row in self.rows if name in row]
            axis.plot(*zip(*points, strict=True), linewidth=1)
            axis.set_ylabel(name, fontsize=7)
            axis.grid(alpha=0.3)
        axes[-1, 0].set_xlabel("step")
        figure.tight_layout()
        temporary = self._curve.with_name(".curve.png")
        figure.savefig(temporary, dpi=90)
        plt.close(figure)
        os.replace(temporary, self._curve)

    def close(self) -> None:
        """Flush everything to disk and draw the final curve."""
        if self.rows:
            self.plot()
        self._events.close()

    def _write_all(self) -> None:
        temporary = self._path.with_name(".metrics.csv")
        with temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "name", "value"])
            for row in self.rows:
                for name, value in row.items():
                    if name != "step":
                        writer.writerow([int(row["step"]), name, repr(value)])
        os.replace(temporary, self._path)


def _read(path: Path) -> list[dict[str, float]]:
    """Rows of a metrics file; a last line cut short by a crash is ignored."""
    if not path.exists():
        return []
    rows: list[dict[str, float]] = []
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            try:
                rows.append({"step": float(line["step"]), line["name"]: float(line["value"])})
            except (TypeError, ValueError, KeyError):
                continue
    return rows

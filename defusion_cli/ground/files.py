"""Grounds as files: the picture, its damaged twin, the instruction, and a sidecar that tells how they were made."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli import __version__
from defusion_cli.errors import UsageError
from defusion_cli.files import write_atomically
from defusion_cli.ground.assembly import check_ground, draw_ground
from defusion_cli.ground.instruction import draw_instruction, encode_residual
from defusion_cli.ground.natural import natural_pool
from defusion_cli.images import write_image
from defusion_cli.plugins import Image, Recipe, replace_params
from defusion_cli.plugins.compose import Plugins

SHEET = "sheet.png"
"""Name of the picture that shows the first grounds side by side."""

MOST_ON_SHEET = 24

_ENCODING = "pixel = 0.5 + v / 2 with v = degraded − ground in [−1, 1]; grey means unchanged"
_GAP = 6


@dataclass(frozen=True)
class GroundSet:
    """What a run of ``defusion make-ground`` draws. Ground i of it comes from ``default_rng([seed, i])``.

    Attributes
    ----------
    kind, size, natural_dir
        As for `draw_ground` and `natural_pool`.
    ids
        Plugins to damage the grounds with, in order of application.
    severity
        In [0, 1]; None draws one for each stage in U(0.3, 1).
    overrides
        Parameters to force, by plugin id.
    """

    kind: str = "visual"
    size: int = 224
    seed: int = 0
    natural_dir: Path | None = None
    ids: tuple[str, ...] = ()
    severity: float | None = None
    overrides: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def check(self, plugins: Plugins) -> None:
        """Raise the `UsageError`, `DataError` or `PluginError` that drawing would raise, before anything is written."""
        check_ground(self.kind, self.size)
        if self.kind == "visual":
            natural_pool(self.natural_dir)
        elif self.natural_dir is not None:
            raise UsageError(f"A {self.kind} ground holds no photograph.", fix="leave out --natural-dir")
        for plugin_id in self.ids:
            plugins[plugin_id]  # raises with a suggestion
        for plugin_id, values in self.overrides.items():
            if plugin_id not in self.ids:
                raise UsageError(
                    f"--set {plugin_id}.… sets a plugin that is not used.",
                    found=plugin_id,
                    accepted=", ".join(self.ids) or "nothing without --plugin",
                    fix=f"add --plugin {plugin_id}",
                )
            replace_params(plugins[plugin_id].neutral(), values, plugin_id)
        if self.severity is not None and not self.ids:
            raise UsageError("--severity is the strength of a degradation, and none is named.", fix="add --plugin rain")

    def names(self, index: int) -> dict[str, str]:
        """File names of ground `index` by what they hold."""
        stem = f"ground-{index:04d}"
        names = {"ground": f"{stem}.png"}
        if self.ids:
            names["degraded"] = f"{stem}-degraded.png"
            names["instruction"] = f"{stem}-instruction.png"
            names["residual"] = f"{stem}-instruction.npy"
        return {**names, "sidecar": f"{stem}.json"}


def write_ground(out: Path, index: int, grounds: GroundSet, plugins: Plugins) -> list[Image]:
    """Write the files of ground `index` into `out`, each in one step, the sidecar last; return the pictures.

    The residual is a float32 array of H×W×3 in NumPy's format without pickled objects; all other pictures are PNG.
    The recipe in the sidecar, applied to the ground as read from its PNG, gives that residual bit for bit.
    """
    names = grounds.names(index)
    rng = np.random.default_rng([grounds.seed, index])
    natural = natural_pool(grounds.natural_dir) if grounds.kind == "visual" else ()
    if not grounds.ids:
        ground = draw_ground(rng, grounds.kind, grounds.size, natural)
        write_image(out / names["ground"], ground)
        _write_sidecar(out, index, grounds, None)
        return [ground]
    ground, degraded, residual, recipe = draw_instruction(
        grounds.ids,
        plugins,
        rng,
        grounds.kind,
        grounds.severity,
        grounds.size,
        natural,
        grounds.overrides,
    )
    pictures = [ground, degraded, encode_residual(residual)]
    for what, picture in zip(("ground", "degraded", "instruction"), pictures, strict=True):
        write_image(out / names[what], picture)
    write_atomically(out / names["residual"], _npy(residual))
    _write_sidecar(out, index, grounds, recipe)
    return pictures


def _npy(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _write_sidecar(out: Path, index: int, grounds: GroundSet, recipe: Recipe | None) -> None:
    names = grounds.names(index)
    sidecar = {
        "kind": "defusion-ground",
        "version": 1,
        "defusion": __version__,
        "ground": {
            "kind": grounds.kind,
            "size_px": grounds.size,
            "seed": grounds.seed,
            "index": index,
            "natural_dir": str(grounds.natural_dir) if grounds.natural_dir else None,
        },
        "recipe": recipe.to_json() if recipe else None,
        "instruction_encoding": _ENCODING if recipe else None,
        "files": {what: name for what, name in names.items() if what != "sidecar"},
    }
    text = json.dumps(sidecar, indent=2, ensure_ascii=False)
    write_atomically(out / names["sidecar"], f"{text}\n".encode())


def write_sheet(path: Path, rows: Sequence[Sequence[Image]]) -> None:
    """One picture with the pictures of each ground side by side, several grounds a line; see `MOST_ON_SHEET`."""
    framed = [np.concatenate([_framed(picture) for picture in row], axis=1) for row in rows]
    columns = max(1, min(len(framed), 6 // len(rows[0])))
    blank = np.ones_like(framed[0])
    framed += [blank] * (-len(framed) % columns)
    lines = [np.concatenate(framed[i : i + columns], axis=1) for i in range(0, len(framed), columns)]
    write_image(path, np.concatenate(lines))


def _framed(picture: Image) -> Image:
    return cv2.copyMakeBorder(picture, _GAP, _GAP, _GAP, _GAP, cv2.BORDER_CONSTANT, value=(1, 1, 1))

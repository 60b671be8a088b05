"""From the flags of ``defusion train-recogniser`` to a resolved run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from defusion_cli.data.mixture import parse_sources
from defusion_cli.errors import DataError, UsageError
from defusion_cli.images import list_images
from defusion_cli.plugins import installed_plugins
from defusion_cli.training.recogniser import RecogniserRun
from defusion_cli.training.recogniser_config import RecogniserRecipe
from defusion_cli.training.settings import set_all


def recogniser_setup(
    settings: Sequence[str],
    data: Sequence[str],
    out: Path,
    *,
    val: Path | None = None,
    plugin_ids: Sequence[str] = (),
    seed: int = 0,
) -> tuple[RecogniserRecipe, RecogniserRun]:
    """Resolve everything a training run needs; nothing is written.

    Raises
    ------
    UsageError, DataError, PluginError
        If anything named does not exist or is out of range.
    """
    recipe = set_all(RecogniserRecipe(), settings)
    recipe.check()
    registry = installed_plugins()
    ids = sorted(set(plugin_ids)) or sorted(registry)
    for plugin_id in ids:
        registry[plugin_id]  # raises, with the nearest name
    if not data:
        raise UsageError("There is nothing to train on.", fix="--data FOLDER, a folder of clean photographs")
    photos: list[Path] = []
    if val is not None:
        if not val.is_dir():
            raise DataError(f"The validation folder {val} does not exist.", fix="--val FOLDER")
        photos = [val / path for path in list_images(val)]
    return recipe, RecogniserRun(out, parse_sources(data), ids, registry, seed, photos)


def describe(recipe: RecogniserRecipe, run: RecogniserRun) -> dict[str, Any]:
    """What a run would do, for ``--dry-run``."""
    return {
        "recipe": dataclasses.asdict(recipe),
        "plugins": list(run.ids),
        "photographs": sum(len(source.photos) for source in run.sources),
        "validation": len(run.validation),
        "out": str(run.out),
        "seed": run.seed,
    }

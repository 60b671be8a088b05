"""From the flags of ``defusion train-tokenizer`` to a resolved run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from defusion_cli.errors import DataError
from defusion_cli.ground import natural_pool
from defusion_cli.plugins import installed_plugins
from defusion_cli.training.instructions import InstructionSource
from defusion_cli.training.settings import check_emphasis, set_all
from defusion_cli.training.tokenizer import TokenizerRun
from defusion_cli.training.tokenizer_config import TokenizerRecipe, preset


def tokenizer_setup(
    preset_name: str,
    settings: Sequence[str],
    out: Path,
    *,
    plugin_ids: Sequence[str] = (),
    natural_dir: Path | None = None,
    init_from: Path | None = None,
    seed: int = 0,
) -> tuple[TokenizerRecipe, TokenizerRun]:
    """Resolve everything a training run needs; nothing is written.

    Raises
    ------
    UsageError, DataError, PluginError
        If anything named does not exist or is out of range.
    """
    recipe = set_all(preset(preset_name), settings)
    recipe.check()
    registry = installed_plugins()
    ids = sorted(set(plugin_ids)) or sorted(registry)
    for plugin_id in [*ids, *recipe.emphasis]:
        registry[plugin_id]  # raises, with the nearest name
    check_emphasis("emphasis", recipe.emphasis, ids)
    if natural_dir is not None:
        natural_pool(natural_dir)  # raises now rather than in a worker
    if init_from is not None:
        if not init_from.is_file() and not (init_from / "config.json").is_file():
            raise DataError(
                f"The checkpoint {init_from} {'is no tokenizer' if init_from.exists() else 'does not exist'}.",
                accepted="a .ckpt or .safetensors file, or the tokenizer/ folder that an earlier run wrote",
                fix="--init-from FILE_OR_FOLDER",
            )
        # The codebook comes with the checkpoint: there is nothing to collect before it starts.
        recipe = dataclasses.replace(recipe, codebook_start=0)
    source = InstructionSource(
        ids,
        registry,
        recipe.ground_px,
        recipe.crop_px,
        recipe.clean_share,
        recipe.mixture_share,
        natural_dir,
        recipe.emphasis,
    )
    return recipe, TokenizerRun(out, source, seed, init_from)


def describe(recipe: TokenizerRecipe, run: TokenizerRun, processes: int) -> dict[str, Any]:
    """What a run would do, for ``--dry-run``."""
    return {
        "recipe": dataclasses.asdict(recipe),
        "plugins": list(run.source.ids),
        "out": str(run.out),
        "seed": run.seed,
        "init_from": str(run.init_from) if run.init_from else None,
        "processes": processes,
        "global_batch": recipe.batch,
    }

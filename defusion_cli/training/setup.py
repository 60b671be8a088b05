"""From flags to a resolved training run: the preset, what is changed in it, the data, the tokenizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from defusion_cli.data.mixture import parse_sources
from defusion_cli.diffusion.backbone import check_backbone, unet_weights
from defusion_cli.errors import DataError, UsageError
from defusion_cli.images import list_images
from defusion_cli.plugins import Registry, installed_plugins
from defusion_cli.tokenizer.model import load_tokenizer
from defusion_cli.training.diffusion_config import PRESETS, DiffusionConfig, Phase
from defusion_cli.training.diffusion_state import DiffusionRun
from defusion_cli.training.settings import check_emphasis, set_value, split_setting, values_of

DEFAULT_MODEL = Path(__file__).parent.parent / "weights" / "default"
_MOST_VALIDATION = 8


def diffusion_config(preset: str, settings: Sequence[str]) -> DiffusionConfig:
    """A preset with ``key=value`` settings.

    Besides the fields of `DiffusionConfig` there are ``batch=32`` (in every phase) and
    ``phases=64x32@0.6,192x8@1`` (crops of 64 pixels, 32 at a time, up to 0.6 of the steps; and so on).

    Raises
    ------
    UsageError
        For an unknown preset or key, or a value that does not parse.
    """
    if preset not in PRESETS:
        raise UsageError("There is no such preset.", found=preset, accepted=", ".join(PRESETS), fix="--preset default")
    fields = values_of(PRESETS[preset])
    for setting in settings:
        key, text = split_setting(setting)
        if key == "batch":
            batch = _whole(key, text)
            fields["phases"] = tuple(dataclasses.replace(phase, batch=batch) for phase in fields["phases"])
        elif key == "phases":
            fields["phases"] = _phases(text)
        else:
            set_value(fields, key, text)
    return dataclasses.replace(PRESETS[preset], **fields)


def _whole(key: str, text: str) -> int:
    if not text.isdigit() or not int(text):
        raise UsageError(f"The setting {key} cannot be read.", found=text, accepted="a whole number above zero")
    return int(text)


def _phases(text: str) -> tuple[Phase, ...]:
    phases = []
    for part in text.split(","):
        size, _, until = part.partition("@")
        crop, _, batch = size.partition("x")
        try:
            phases.append(Phase(float(until or 1), int(crop), int(batch)))
        except ValueError:
            raise UsageError(
                "These phases cannot be read.",
                found=text,
                accepted="crops of 64 px, 32 at a time, up to 0.6 of the steps, and so on: 64x32@0.6,192x8@1",
                fix="--set phases=64x32@0.6,192x8@1",
            ) from None
    return tuple(phases)


def diffusion_setup(
    preset: str,
    settings: Sequence[str],
    data: Sequence[str],
    out: Path,
    *,
    val: Path | None = None,
    plugin_ids: Sequence[str] = (),
    tokenizer: str = "default",
    init_from: Path | None = None,
) -> tuple[DiffusionConfig, DiffusionRun]:
    """Resolve everything a training run needs; nothing is written.

    Raises
    ------
    UsageError, DataError, PluginError
        If anything named does not exist or does not fit.
    """
    registry = installed_plugins()
    config = diffusion_config(preset, settings)
    ids = list(plugin_ids) or list(config.plugins) or sorted(registry)
    named = {i for mixture in config.synthesis.familiar for i in mixture} | set(config.synthesis.emphasis)
    named |= {*config.synthesis.coarse_emphasis, *config.refinement, *config.faint_refinement}
    # What a preset names besides may be another's plugin that is broken or not there, and nobody asked for it.
    _check_ids([*ids, *sorted(named - _names_of_presets())], registry)
    for name in ("emphasis", "coarse_emphasis"):
        check_emphasis(f"synthesis.{name}", getattr(config.synthesis, name), ids)
    if not data:
        raise UsageError("There is nothing to train on.", fix="--data FOLDER, a folder of clean photographs")
    sources = parse_sources(data)
    _check_ids(sorted({i for source in sources for photo in source.photos for i in photo.ids}), registry)
    photos: list[Path] = []
    if val is not None:
        if not val.is_dir():
            raise DataError(f"The validation folder {val} does not exist.", fix="--val FOLDER")
        photos = [val / path for path in list_images(val)[:_MOST_VALIDATION]]
    folder = str(DEFAULT_MODEL / "tokenizer") if tokenizer == "default" else tokenizer
    if not (Path(folder) / "config.json").is_file():
        raise DataError(
            f"There is no tokenizer in {folder}.",
            accepted="the tokenizer/ folder that defusion train-tokenizer wrote",
            fix="--tokenizer FOLDER, or defusion train-tokenizer first",
        )
    check_backbone(config.backbone, config.backbone_options)
    start = DEFAULT_MODEL if str(init_from) == "default" else init_from
    if start is not None:
        unet_weights(start)  # here, before processes are started that would each complain
    run = DiffusionRun(out, sources, ids, registry, load_tokenizer(folder), photos, start)
    return config, run


def _names_of_presets() -> set[str]:
    parts = [preset.synthesis for preset in PRESETS.values()]
    familiar = {i for part in parts for mixture in part.familiar for i in mixture}
    return familiar.union(*(part.emphasis for part in parts), *(preset.refinement for preset in PRESETS.values()))


def _check_ids(ids: Sequence[str], registry: Registry) -> None:
    for plugin_id in ids:
        registry[plugin_id]  # raises, with the nearest name


def describe(config: DiffusionConfig, run: DiffusionRun, processes: int) -> dict[str, Any]:
    """What a run would do, for ``--dry-run``."""
    return {
        "config": dataclasses.asdict(config),
        "plugins": list(run.ids),
        "photographs": sum(len(source.photos) for source in run.sources),
        "validation": [str(path) for path in run.validation],
        "init_from": str(run.init_from) if run.init_from else None,
        "out": str(run.out),
        "processes": processes,
        "global_batch": [phase.batch for phase in config.phases],
        "parameters_in_the_tokenizer": sum(p.numel() for p in run.tokenizer.parameters()),
    }

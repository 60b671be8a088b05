"""What commands with ``--plugin`` and ``--set`` share."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

from defusion_cli.errors import UsageError

AUTO, BLIND = "auto", "blind"
"""In place of the id of a degradation: whatever is recognised, and whatever the model sees."""


def complete_plugin(incomplete: str) -> list[str]:
    """Ids of degradations that begin so, for the shell; by name only, nobody's plugin is imported.

    Of several, the last one is completed: ``rain,sn`` gives ``rain,snow``.
    """
    return _complete_last(incomplete, sorted(importlib.metadata.entry_points(group="defusion.degradations").names))


METRICS = (
    "psnr", "ssim", "lpips", "fid", "mae", "psnry", "ssimc", "fid-clean", "fid-legacy", "niqe", "brisque", "musiq",
    "maniqa", "clipiqa", "dists", "fsim", "vif", "ms_ssim",
)  # fmt: skip
"""Metrics that the shell completes: ours, and those of pyiqa that papers use. Importing pyiqa would take seconds."""


def complete_metrics(incomplete: str) -> list[str]:
    """The list typed so far with its last name completed: ``psnr,l`` gives ``psnr,lpips``."""
    return _complete_last(incomplete, METRICS)


def _complete_last(incomplete: str, names: Sequence[str]) -> list[str]:
    done, comma, last = incomplete.rpartition(",")
    return [f"{done}{comma}{name}" for name in names if name.startswith(last) and name not in done.split(",")]


def split_ids(values: Sequence[str] | None) -> list[str]:
    """Ids that were given one by one, as ``rain,noise``, or, as mixtures are written, as ``rain+noise``."""
    return [part.strip() for value in values or () for part in value.replace("+", ",").split(",")]


def complete_damage(incomplete: str) -> list[str]:
    """As `complete_plugin`, and ``auto`` and ``blind``."""
    return [word for word in (AUTO, BLIND) if word.startswith(incomplete)] + complete_plugin(incomplete)


def parse_settings(settings: Sequence[str]) -> dict[str, dict[str, object]]:
    """``["snow.wind_deg=10"]`` as ``{"snow": {"wind_deg": "10"}}``.

    Raises
    ------
    UsageError
        If one is not of the form ``ID.NAME=VALUE``.
    """
    found: dict[str, dict[str, object]] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        plugin_id, dot, key = name.partition(".")
        if not (equals and dot and plugin_id and key):
            raise UsageError(
                "--set is not understood.", found=setting, accepted="ID.NAME=VALUE, as in snow.wind_deg=10"
            )
        found.setdefault(plugin_id.strip(), {})[key.strip().replace("-", "_")] = value.strip()
    return found

"""The metrics one can ask for, each with its definition in words."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from defusion_cli.errors import UsageError
from defusion_cli.scoring import engine, fidelity
from defusion_cli.scoring.protocols import FidMode, Protocol

Kind = Literal["pixels", "network", "set"]
_Image = NDArray[np.float32]

_FID_MODES: dict[str, FidMode | None] = {
    "fid": None, "fid-clean": "clean", "fid-legacy": "legacy_pytorch", "fid-tensorflow": "legacy_tensorflow",
}  # fmt: skip
_SETS_OF_PYIQA = ("sfid", "fid_dinov2", "inception_score")
_PIXELS = ("psnr", "psnry", "psnrb", "ssim", "ssimc", "mae")
_USUAL = "psnr, ssim, lpips, dists, fid, mae; without true pictures niqe, brisque, musiq; and many more"
PixelFunction = Callable[[_Image, _Image, "NDArray[np.bool_] | None"], float]
"""From picture, reference (H×W×3 in [0, 1]) and the pixels that count (H×W; None for all) to a number."""


@dataclass(frozen=True)
class Metric:
    """A metric as it will be computed.

    Attributes
    ----------
    name
        As the user wrote it.
    kind
        "pixels": computed here; "network": pyiqa, a pair at a time; "set": one number for two folders.
    definition
        Protocol in words, to be printed beside the number.
    lower_better
        True for distances.
    needs_reference
        False for no-reference metrics.
    function
        Of kind "pixels".
    fid_mode
        Of FID.
    """

    name: str
    kind: Kind
    definition: str
    lower_better: bool = False
    needs_reference: bool = True
    function: PixelFunction | None = None
    fid_mode: FidMode | None = None

    @property
    def unit(self) -> str:
        """Unit of the numbers; empty for those without."""
        return "dB" if self.name.startswith("psnr") else ""

    def gain(self, score: float, base: float) -> float:
        """By how much `score` is better than `base`: positive is better, whatever the metric's direction."""
        if score == base:  # two perfect pictures have infinite scores, and no gain
            return 0.0
        return base - score if self.lower_better else score - base

    @property
    def decimals(self) -> int:
        """Digits after the point that papers print."""
        if self.name.startswith("psnr") or "fid" in self.name:
            return 2
        return 4


def find_metrics(names: str, protocol: Protocol, reference: bool) -> tuple[Metric, ...]:
    """Metrics from a list such as ``psnr,ssim,lpips``.

    Parameters
    ----------
    names
        Separated by commas.
    reference
        Whether there are true pictures.

    Raises
    ------
    UsageError
        If a name is unknown, or its metric needs a reference and there is none.
    """
    wanted = list(dict.fromkeys(name.strip().lower() for name in names.split(",") if name.strip()))
    if not wanted:
        raise UsageError("--metrics names none.", accepted="a list, as in psnr,ssim,lpips,fid")
    found = tuple(_find(name, protocol) for name in wanted)
    lonely = [metric.name for metric in found if metric.needs_reference and not reference]
    if lonely:
        raise UsageError(
            f"{', '.join(lonely)} need{'s' if len(lonely) == 1 else ''} the true pictures.",
            found="no REF",
            fix=f"defusion score OUT REF --metrics {names}, or a metric without reference, as niqe",
        )
    return found


def all_metrics(protocol: Protocol) -> tuple[Metric, ...]:
    """Every metric there is, by name.

    Raises
    ------
    UsageError
        If pyiqa is not installed.
    """
    names = sorted({name.lower() for name in engine.known_metrics()} | {*_FID_MODES, *_PIXELS})
    return tuple(_find(name, protocol) for name in names)


def _find(name: str, protocol: Protocol) -> Metric:
    """The metric of a name in small letters."""
    if name in _PIXELS:
        return _pixel_metric(name, protocol)
    if name in _FID_MODES:
        mode = _FID_MODES[name] or protocol.fid_mode
        definition = replace(protocol, fid_mode=mode).fid_text()
        return Metric(name, "set", definition, lower_better=True, fid_mode=mode)
    known = {key.lower(): key for key in engine.known_metrics()}  # clipiqa+_vitL14_512
    if name not in known:
        near = difflib.get_close_matches(name, sorted({*known, *_FID_MODES, *_PIXELS}), n=3, cutoff=0.55)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        raise UsageError(
            "There is no such metric.",
            found=name,
            accepted=_USUAL,
            fix=f"{guess}defusion score --metrics list shows all",
        )
    name = known[name]
    settings = engine.known_metrics()[name]
    needs_reference = settings.get("metric_mode") == "FR" and name != "inception_score"
    return Metric(
        name,
        "set" if name in _SETS_OF_PYIQA else "network",
        _definition(name, settings),
        lower_better=bool(settings.get("lower_better", False)),
        needs_reference=needs_reference,
    )


def _pixel_metric(name: str, protocol: Protocol) -> Metric:
    if name == "mae":
        return Metric(name, "pixels", protocol.mae_text(), lower_better=True, function=fidelity.mean_absolute_error)
    if name == "psnry" and protocol.psnr_colour == "rgb":
        protocol = replace(protocol, psnr_colour="y-full", rounded=False)
    if name == "ssimc":
        protocol = replace(protocol, ssim_colour="rgb")
    if name == "psnrb":
        return Metric(
            name, "pixels", protocol.psnr_b_text(), function=lambda a, b, m: fidelity.psnr_b(a, b, protocol, m)
        )
    if name.startswith("psnr"):
        # pyiqa rounds luma for SSIM but not for PSNR.
        settled = replace(protocol, rounded=False) if protocol.name == "pyiqa" else protocol
        return Metric(name, "pixels", settled.psnr_text(), function=lambda a, b, m: fidelity.psnr(a, b, settled, m))
    return Metric(name, "pixels", protocol.ssim_text(), function=lambda a, b, m: fidelity.ssim(a, b, protocol, m))


def _definition(name: str, settings: Any) -> str:
    options = dict(settings.get("metric_opts", {}))
    kind = options.pop("type", name)
    if kind == "LPIPS":
        backbone = {"alex": "AlexNet", "vgg": "VGG-16"}.get(options["net"], options["net"])
        extra = ", semantic weights" if "semantic_weight_layer" in options else ""
        return f"{backbone}, version {options['version']}, input scaled to [-1, 1]{extra}; RGB, whole picture"
    details = ", ".join(f"{key} {value}" for key, value in options.items() if isinstance(value, (str, int, float)))
    return f"pyiqa {kind}" + (f" ({details})" if details else "")


def network_names(metrics: Sequence[Metric]) -> list[str]:
    """Names of the metrics of kind "network"."""
    return [metric.name for metric in metrics if metric.kind == "network"]

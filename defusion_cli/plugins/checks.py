"""The test a third party runs on its own degradation: ``check_degradation(MOIRE)``."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np

from defusion_cli.errors import PluginError, UsageError, one_line
from defusion_cli.plugins.attributes import wrong_attribute
from defusion_cli.plugins.contract import Degradation, Image
from defusion_cli.plugins.params import build_params, params_to_json


def _require(condition: bool, plugin: Degradation[Any], sentence: str) -> None:
    if not condition:
        raise PluginError(f"{plugin.id}: {sentence}")


def _ask(plugin: Degradation[Any], method: str, *arguments: Any) -> Any:
    """What a method of `plugin` returns; a `PluginError` with its name if it raises."""
    try:
        return getattr(plugin, method)(*arguments)
    except Exception as error:  # a plugin is a stranger's code; its failure is named, not ours
        reason = one_line(f"{type(error).__name__}: {error}")
        raise PluginError(f"{plugin.id}: {method} raised {reason}") from error


def _photo_like(rng: np.random.Generator, height: int, width: int) -> Image:
    """Shapes, texture, a gradient and highlights: something for every degradation to act on."""
    coarse = rng.random((height // 16 + 2, width // 16 + 2, 3), dtype=np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    image += 0.1 * rng.standard_normal(image.shape, dtype=np.float32)
    image[: height // 4] = 0.5 * image[: height // 4] + 0.5 * np.linspace(0.2, 1.0, width, dtype=np.float32)[:, None]
    return np.clip(image, 0.0, 1.0)


def _apply(plugin: Degradation[Any], image: Image, params: Any, seed: int) -> tuple[Image, object]:
    rng = np.random.default_rng(seed)
    out = _ask(plugin, "apply", image, params, rng)
    _require(isinstance(out, np.ndarray), plugin, f"apply must return a picture, not {type(out).__name__}.")
    _require(
        out.shape == image.shape and out.dtype == np.float32,
        plugin,
        f"apply must return float32 of that shape, {image.shape}, not {out.dtype} {out.shape}.",
    )
    return out, rng.bit_generator.state


def _sample(plugin: Degradation[Any], rng: np.random.Generator, severity: float | None = None) -> Any:
    params = _ask(plugin, "sample", rng, severity)
    _require(isinstance(params, plugin.Params), plugin, f"sample must return Params, not {type(params).__name__}.")
    try:
        same = build_params(plugin.Params, params_to_json(params), plugin.id) == params
    except UsageError as error:
        raise PluginError(
            f"{plugin.id}: sampled parameters must lie in their ranges: {error.failed}",
            found=error.found,
            accepted=error.accepted,
        ) from None
    _require(same, plugin, "sampled parameters must survive JSON.")
    return params


def check_degradation(plugin: Degradation[Any], seed: int = 0) -> None:
    """Raise `PluginError` at the first promise of the contract that `plugin` breaks.

    Checks names and parameters, JSON round trip, purity, determinism per seed, shape, dtype, range and
    finiteness, the 8-bit form, identity of the neutral parameters, that draws do not depend on pixel values, the
    instruction, and that severity is monotone on average.
    """
    _check_attributes(plugin)
    rng = np.random.default_rng(seed)
    first, second = _photo_like(rng, 96, 128), _photo_like(rng, 96, 128)
    for draw in range(6):
        params = _sample(plugin, np.random.default_rng([seed, draw]), None if draw else 1.0)
        out = _check_pixels(plugin, first, second, params, draw)
        _check_other_forms(plugin, first, out, params, draw)

    same, _ = _apply(plugin, first, _ask(plugin, "neutral"), 0)
    _require(bool(np.abs(same - first).max() < 1e-3), plugin, "neutral() must leave the picture as it is.")
    strengths = [_mean_damage(plugin, first, severity, seed) for severity in (0.1, 0.5, 0.9)]
    rising = strengths[0] < strengths[1] < strengths[2]
    _require(rising, plugin, f"severity must be monotone, residuals are {strengths}.")
    for height, width in ((1, 1), (7, 3), (33, 65)):
        _apply(plugin, _photo_like(rng, height, width), _sample(plugin, np.random.default_rng(seed)), 0)


def _check_attributes(plugin: Degradation[Any]) -> None:
    wrong = wrong_attribute(plugin)
    _require(wrong is None, plugin, str(wrong))
    _require(_rises(plugin.faintest), plugin, "faintest must be two levels of 255 in rising order.")
    _require(bool(plugin.summary) and "\n" not in plugin.summary, plugin, "summary must be one line.")
    for field in dataclasses.fields(plugin.Params):
        _require(bool(field.metadata.get("meaning")), plugin, f"parameter {field.name} must be made with param(…).")


def _rises(levels: object) -> bool:
    if not isinstance(levels, (tuple, list)) or len(levels) != 2:
        return False
    return all(isinstance(level, (int, float)) for level in levels) and 0 <= levels[0] < levels[1] <= 255


def _check_pixels(plugin: Degradation[Any], first: Image, second: Image, params: Any, seed: int) -> Image:
    """What `apply` makes of `first`, which keeps its promises."""
    before = first.copy()
    out, state = _apply(plugin, first, params, seed)
    again, _ = _apply(plugin, first, params, seed)
    _, other_state = _apply(plugin, second, params, seed)
    _require(np.array_equal(first, before), plugin, "apply must not change its input.")
    _require(out is not first, plugin, "apply must return a new array.")
    _require(bool(np.isfinite(out).all()) and out.min() >= 0 and out.max() <= 1, plugin, "apply must stay in [0, 1].")
    _require(np.array_equal(out, again), plugin, "the same seed must give the same pixels.")
    _require(state == other_state, plugin, "what apply draws from rng must not depend on pixel values.")
    return out


def _check_other_forms(plugin: Degradation[Any], image: Image, out: Image, params: Any, seed: int) -> None:
    """The instruction and the 8-bit form must say what `apply` does, which gave `out`."""
    residual = _ask(plugin, "instruction", image, params, np.random.default_rng(seed))
    alike = np.shape(residual) == out.shape and np.allclose(residual, out - image, atol=1e-6)
    _require(alike, plugin, "the instruction must be apply(g) − g.")

    picture = np.rint(image * 255).astype(np.uint8)
    eight_bit = _ask(plugin, "apply_8bit", picture, params, np.random.default_rng(seed))
    exact, _ = _apply(plugin, np.multiply(picture, np.float32(1 / 255), dtype=np.float32), params, seed)
    _require(np.array_equal(eight_bit, np.rint(exact * 255)), plugin, "apply_8bit must be apply, rounded.")


def _mean_damage(plugin: Degradation[Any], image: Image, severity: float, seed: int) -> float:
    """Root-mean-square residual at one severity, averaged over 24 draws."""
    total = 0.0
    for draw in range(24):
        params = _sample(plugin, np.random.default_rng([seed, draw]), severity)
        out, _ = _apply(plugin, image, params, draw)
        total += float(np.sqrt(np.mean((out - image) ** 2)))
    return total / 24

"""The test a third party runs on its own degradation: ``check_degradation(MOIRE)``."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import cv2
import numpy as np

from defusion_cli.errors import PluginError
from defusion_cli.plugins.contract import Degradation, Image, Position
from defusion_cli.plugins.params import build_params, params_to_json


def _require(condition: bool, plugin: Degradation[Any], sentence: str) -> None:
    if not condition:
        raise PluginError(f"{plugin.id}: {sentence}")


def _photo_like(rng: np.random.Generator, height: int, width: int) -> Image:
    """Shapes, texture, a gradient and highlights: something for every degradation to act on."""
    coarse = rng.random((height // 16 + 2, width // 16 + 2, 3), dtype=np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    image += 0.1 * rng.standard_normal(image.shape, dtype=np.float32)
    image[: height // 4] = 0.5 * image[: height // 4] + 0.5 * np.linspace(0.2, 1.0, width, dtype=np.float32)[:, None]
    return np.clip(image, 0.0, 1.0)


def _apply(plugin: Degradation[Any], image: Image, params: Any, seed: int) -> tuple[Image, object]:
    rng = np.random.default_rng(seed)
    out = plugin.apply(image, params, rng)
    return out, rng.bit_generator.state


def check_degradation(plugin: Degradation[Any], seed: int = 0) -> None:
    """Raise `PluginError` at the first promise of the contract that `plugin` breaks.

    Checks names and parameters, JSON round trip, purity, determinism per seed, shape, dtype, range and
    finiteness, the 8-bit form, identity of the neutral parameters, that draws do not depend on pixel values, the
    instruction, and that severity is monotone on average.
    """
    _require(
        bool(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", plugin.id)),
        plugin,
        "the id must be lower-case words and hyphens.",
    )
    _require(isinstance(plugin.position, Position), plugin, "position must be a Position.")
    none, clear = plugin.faintest
    _require(0 <= none < clear <= 255, plugin, "faintest must be two levels of 255 in rising order.")
    _require(bool(plugin.summary) and "\n" not in plugin.summary, plugin, "summary must be one line.")
    _require(dataclasses.is_dataclass(plugin.Params), plugin, "Params must be a frozen dataclass.")
    for field in dataclasses.fields(plugin.Params):
        _require(bool(field.metadata.get("meaning")), plugin, f"parameter {field.name} must be made with param(…).")

    rng = np.random.default_rng(seed)
    first, second = _photo_like(rng, 96, 128), _photo_like(rng, 96, 128)
    for draw in range(6):
        params = plugin.sample(np.random.default_rng([seed, draw]), None if draw else 1.0)
        _require(
            build_params(plugin.Params, params_to_json(params), plugin.id) == params,
            plugin,
            "sampled parameters must lie in their ranges and survive JSON.",
        )
        before = first.copy()
        out, state = _apply(plugin, first, params, draw)
        again, _ = _apply(plugin, first, params, draw)
        _, other_state = _apply(plugin, second, params, draw)
        _require(np.array_equal(first, before), plugin, "apply must not change its input.")
        _require(out is not first, plugin, "apply must return a new array.")
        _require(
            out.shape == first.shape and out.dtype == np.float32, plugin, "apply must return float32 of that shape."
        )
        _require(
            bool(np.isfinite(out).all()) and out.min() >= 0 and out.max() <= 1, plugin, "apply must stay in [0, 1]."
        )
        _require(np.array_equal(out, again), plugin, "the same seed must give the same pixels.")
        _require(state == other_state, plugin, "what apply draws from rng must not depend on pixel values.")
        residual = plugin.instruction(first, params, np.random.default_rng(draw))
        _require(np.allclose(residual, out - first, atol=1e-6), plugin, "the instruction must be apply(g) − g.")

        picture = np.rint(first * 255).astype(np.uint8)
        eight_bit = plugin.apply_8bit(picture, params, np.random.default_rng(draw))
        exact, _ = _apply(plugin, np.multiply(picture, np.float32(1 / 255), dtype=np.float32), params, draw)
        _require(np.array_equal(eight_bit, np.rint(exact * 255)), plugin, "apply_8bit must be apply, rounded.")

    same, _ = _apply(plugin, first, plugin.neutral(), 0)
    _require(bool(np.abs(same - first).max() < 1e-3), plugin, "neutral() must leave the picture as it is.")
    strengths = [_mean_damage(plugin, first, severity, seed) for severity in (0.1, 0.5, 0.9)]
    rising = strengths[0] < strengths[1] < strengths[2]
    _require(rising, plugin, f"severity must be monotone, residuals are {strengths}.")
    for height, width in ((1, 1), (7, 3), (33, 65)):
        small, _ = _apply(plugin, _photo_like(rng, height, width), plugin.sample(np.random.default_rng(seed)), 0)
        _require(small.shape == (height, width, 3), plugin, f"apply must handle {width}×{height} pixels.")


def _mean_damage(plugin: Degradation[Any], image: Image, severity: float, seed: int) -> float:
    """Root-mean-square residual at one severity, averaged over 24 draws."""
    total = 0.0
    for draw in range(24):
        params = plugin.sample(np.random.default_rng([seed, draw]), severity)
        out, _ = _apply(plugin, image, params, draw)
        total += float(np.sqrt(np.mean((out - image) ** 2)))
    return total / 24

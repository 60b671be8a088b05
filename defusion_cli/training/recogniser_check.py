"""How well a recogniser does on photographs that it has never seen: each degradation, mixtures, and clean ones."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from defusion_cli.canvas import Canvas, quantise
from defusion_cli.console import progress
from defusion_cli.images import read_pixels
from defusion_cli.plugins import Image, apply_recipe, draw_recipe, physical_order
from defusion_cli.plugins.compose import Plugins
from defusion_cli.recognition import DegradationRecogniser, Recognition, recognise

SEVERITY = 0.5
_MIXTURES_PER_PHOTO = 2


@dataclass(frozen=True)
class Check:
    """Shares of photographs, 0 … 1.

    Attributes
    ----------
    first
        By degradation: it alone lies on the photograph, and is named first.
    exact
        By degradation: it and nothing else is called present.
    alarms, saved_alarms
        Clean photographs that are called damaged, as they are and saved as JPEG of quality 92.
    both, exactly_both
        Mixtures of two of which both are called present, and nothing else.
    photos
        How many photographs were looked at.
    """

    first: dict[str, float]
    exact: dict[str, float]
    alarms: float
    both: float
    exactly_both: float
    saved_alarms: float
    photos: int

    @property
    def top1(self) -> float:
        """Mean of `first`."""
        return sum(self.first.values()) / len(self.first)


def check_recogniser(
    network: DegradationRecogniser, photos: Sequence[Path], plugins: Plugins, severity: float = SEVERITY
) -> Check:
    """Damage each photograph by each degradation at one severity, and ask what it shows."""
    ids = network.ids
    first, exact = dict.fromkeys(ids, 0.0), dict.fromkeys(ids, 0.0)
    alarms = saved_alarms = both = exactly = pairs = 0
    with progress("Recognising", len(photos), "photos") as bar:
        for number, path in enumerate(photos):
            clean = read_pixels(path)
            alarms += bool(_look(network, clean).present)
            saved_alarms += bool(_look(network, _saved(clean)).present)
            for plugin_id in ids:
                seen = _look(network, damaged(clean, [plugin_id], number, plugins, severity))
                first[plugin_id] += seen.best == plugin_id
                exact[plugin_id] += seen.present == (plugin_id,)
            for mixture in mixtures(ids, number, plugins):
                present = set(_look(network, damaged(clean, mixture, number, plugins, severity)).present)
                both, exactly, pairs = (
                    both + (set(mixture) <= present),
                    exactly + (set(mixture) == present),
                    pairs + 1,
                )
            bar.advance()
    count = len(photos)
    return Check(
        {name: value / count for name, value in first.items()},
        {name: value / count for name, value in exact.items()},
        alarms / count,
        both / max(1, pairs),
        exactly / max(1, pairs),
        saved_alarms / count,
        count,
    )


def _look(network: DegradationRecogniser, pixels: Image) -> Recognition:
    return recognise(network, Canvas(quantise(pixels, 8)))


def _saved(clean: Image) -> Image:
    file = cv2.imencode(".jpg", quantise(clean, 8)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
    return np.asarray(np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR))[..., ::-1], np.float32) / np.float32(255)


def damaged(clean: Image, ids: Sequence[str], number: int, plugins: Plugins, severity: float) -> Image:
    """`clean` under one realisation, always the same for a photograph of this number."""
    rng = np.random.default_rng([zlib.crc32("+".join(ids).encode()), number])
    return apply_recipe(clean, draw_recipe(ids, plugins, rng, severity), plugins)


def mixtures(ids: Sequence[str], number: int, plugins: Plugins) -> list[list[str]]:
    """Two different degradations each, in physical order; always the same for a photograph of this number."""
    if len(ids) < 2:
        return []
    rng = np.random.default_rng([2, number])
    pairs = [rng.choice(len(ids), 2, replace=False) for _ in range(_MIXTURES_PER_PHOTO)]
    return [physical_order([ids[k] for k in pair], plugins) for pair in pairs]

"""From a photograph of any size to what the recogniser sees, and to what it says."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from defusion_cli.canvas import Photo, Pixels, cut_crops, reduced
from defusion_cli.recognition.features import describe
from defusion_cli.recognition.network import DegradationRecogniser

_GLANCE_PX = 2048
THUMBNAIL_PX = 64
"""Side of the thumbnail that what concerns the whole photograph is read from."""


@dataclass(frozen=True)
class Recognition:
    """What a photograph shows.

    Attributes
    ----------
    probabilities
        Of each degradation that the recogniser knows, 0 … 1, the most probable one first.
    threshold, companion
        From which on one is called present, and further ones beside it.
    """

    probabilities: tuple[tuple[str, float], ...]
    threshold: float = 0.5
    companion: float = 0.5

    @property
    def present(self) -> tuple[str, ...]:
        """The degradations to remove, the most probable one first; empty for a clean photograph."""
        least = self.companion if self.probabilities[0][1] >= self.threshold else self.threshold
        return tuple(name for name, probability in self.probabilities if probability >= least)

    @property
    def best(self) -> str:
        """The most probable degradation, whether or not it is called present."""
        return self.probabilities[0][0]

    def __str__(self) -> str:
        """What is present and how probable, as in ``rain 97 %, noise 81 %``; empty for a clean photograph."""
        shown = self.present
        return ", ".join(f"{name} {100 * value:.0f} %" for name, value in self.probabilities if name in shown)


@torch.no_grad()
def recognise(network: DegradationRecogniser, photo: Photo) -> Recognition:
    """Look at a photograph of any size.

    Parameters
    ----------
    photo
        The photograph as displayed, in sRGB (`defusion_cli.canvas.Photo`).
    """
    vector = describe(cut_crops(photo), shrink(np.clip(reduced(photo, _GLANCE_PX), 0, 1)))
    logits = network(torch.from_numpy(vector)[None].to(network.device))[0]
    values = torch.sigmoid(logits).tolist()
    ranked = sorted(zip(network.ids, values, strict=True), key=lambda pair: -pair[1])
    return Recognition(tuple(ranked), float(network.config["threshold"]), float(network.config["companion"]))


def shrink(pixels: Pixels) -> Pixels:
    """A whole photograph as a thumbnail, 64×64×3."""
    thumbnail: Pixels = cv2.resize(
        np.ascontiguousarray(pixels), (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA
    )
    return thumbnail

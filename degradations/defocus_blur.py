"""Defocus: a point out of focus becomes an image of the aperture.

A thin lens of focal length f and f-number N, focused at distance o_f, spreads a point at distance o over a circle of
confusion of diameter (Potmesil and Chakravarty, "Synthetic image generation with a lens and aperture camera model",
ACM Transactions on Graphics 1(2), 1982)::

    c = |o − o_f| / o · f² / (N (o_f − f))

and the picture is I = J ∗ k with k the aperture, uniform inside and of unit sum: a disk of radius c / 2, or the
polygon of the diaphragm's blades inscribed in it. Light adds up, so the blur acts on linear light, and what was
brighter than white in the scene keeps its energy: lamps become bright disks of the aperture's shape.

Photographs rarely say how far things are, so the radius is given in pixels, the same all over the picture. With a
depth map and `layers` above 1 it grows from zero at `focus` to `radius_px` at the depth farthest from it; layers are
blurred with their coverage and composited from far to near.

Left out: bright rims and onion rings of the disk, cat's eyes towards the corners, diffraction, colour fringes, and
what a foreground hides from the lens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from defusion_cli.plugins import Blur, Degradation, Image, Position, Scene, param, severity_or_draw
from defusion_cli.plugins.kernels import convolve, from_light, to_light

Array = NDArray[np.float32]


@dataclass(frozen=True)
class DefocusBlurParams:
    """Parameters of `DefocusBlur`."""

    radius_px: float = param(4.0, unit="px", low=0.0, high=40.0, meaning="radius of the circle of confusion")
    aperture: str = param("disk", choices=("disk", "polygon"), meaning="shape of the opening")
    blades: int = param(7, low=5, high=9, meaning="corners of a polygon aperture")
    rotation_deg: float = param(0.0, unit="deg", low=0.0, high=360.0, meaning="rotation of a polygon aperture")
    highlights: float = param(0.0, unit="times white", low=0.0, high=20.0, meaning="extra brightness of clipped parts")
    space: str = param("linear", choices=("linear", "srgb"), meaning="values that are averaged: light, or the file's")
    layers: int = param(1, low=1, high=16, meaning="layers of depth, if depth is known; 1: the same blur everywhere")
    focus: float = param(0.0, unit="relative depth", low=0.0, high=1.0, meaning="depth in focus, for several layers")


def aperture_psf(params: DefocusBlurParams) -> Array:
    """The aperture as an antialiased point spread function, odd and square, of unit sum and centred."""
    radius = params.radius_px
    half = int(np.ceil(radius + 0.5))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    if params.aperture == "disk":
        inside = radius - np.hypot(x, y)
    else:
        # The signed distance to the nearest side, whose normals point from the centre every 360° / blades.
        normals = np.deg2rad(params.rotation_deg) + 2 * np.pi * np.arange(params.blades) / params.blades
        reach = np.max([x * np.cos(a) + y * np.sin(a) for a in normals], axis=0)
        inside = radius * np.cos(np.pi / params.blades) - reach
    psf = np.clip(inside + 0.5, 0.0, 1.0)
    return np.asarray(psf / psf.sum(), np.float32)


def _by_depth(light: Array, depth: Array, params: DefocusBlurParams) -> Array:
    """Layers of equal depth, each blurred by its own radius together with its coverage, from far to near."""
    depth = np.clip(depth, 0.0, 1.0)
    layer_of = np.minimum((depth * params.layers).astype(np.int32), params.layers - 1)
    total = np.zeros((*light.shape[:2], 4), np.float32)
    for layer in reversed(range(params.layers)):
        there = (layer_of == layer).astype(np.float32)[..., None]
        if not there.any():
            continue
        distance = abs((layer + 0.5) / params.layers - params.focus) / max(params.focus, 1 - params.focus)
        psf = aperture_psf(replace(params, radius_px=params.radius_px * distance))
        blurred = convolve(np.concatenate([light * there, there], axis=2), psf)
        total = total * (1 - blurred[..., 3:]) + blurred
    # What a nearer layer uncovers was never photographed: its surroundings stand in.
    return np.asarray(total[..., :3] / np.maximum(total[..., 3:], 1e-3), np.float32)


class DefocusBlur(Degradation[DefocusBlurParams]):
    """A lens that is focused somewhere else."""

    id = "defocus-blur"
    version = "2"
    summary = "Defocus through a round or polygonal aperture, in linear light, with bright highlights"
    position = Position.SCENE
    uniform_blur = Blur.DISK
    Params = DefocusBlurParams

    def sample(self, rng: np.random.Generator, severity: float | None = None) -> DefocusBlurParams:
        """Radius from 0.7 to 12 px with `severity`; half disks, half polygons; three in four in linear light."""
        radius = 0.7 + 11.3 * severity_or_draw(rng, severity) ** 1.5
        polygon, bright, in_srgb = rng.random(3) < (0.5, 0.4, 0.25)
        highlights = float(rng.uniform(0.0, 6.0))
        return DefocusBlurParams(
            radius_px=radius,
            aperture="polygon" if polygon else "disk",
            blades=int(rng.integers(5, 10)),
            rotation_deg=float(rng.uniform(0.0, 360.0)),
            highlights=highlights if bright else 0.0,
            space="srgb" if in_srgb else "linear",
        )

    def apply(
        self, image: Image, params: DefocusBlurParams, rng: np.random.Generator, scene: Scene | None = None
    ) -> Image:
        """The picture out of focus; draws nothing from `rng`."""
        if params.radius_px == 0:
            return image.copy()
        light = to_light(image, params.space, params.highlights)
        if params.layers > 1 and scene is not None and scene.depth is not None:
            blurred = _by_depth(light, scene.depth, params)
        else:
            blurred = convolve(light, aperture_psf(params))
        return from_light(blurred, params.space)

    def neutral(self) -> DefocusBlurParams:
        """A circle of confusion of radius zero."""
        return DefocusBlurParams(radius_px=0.0)


DEFOCUS_BLUR = DefocusBlur()

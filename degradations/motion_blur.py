"""Motion blur: the camera moves while the shutter is open.

Every scene point is drawn along the camera's path x(t), which turns, jerks and lingers (Boracchi and Foi, "Modeling
the performance of image restoration from motion blur", IEEE TIP 21(8), 2012)::

    I = J ∗ k,    k(u) = ∫ w(t) δ(u − x(t)) dt,    v ← v + Δv,    x ← x + v

Δv is the sum of a random acceleration, a pull back to the start, and now and then a jerk that nearly reverses the
motion; `shake` scales all three, 0 being a straight path. The hand lingers here and there (ours, not the paper's),
which gives the weight w. ``linear`` is the even straight line of a panning camera or a passing train. The path is
drawn by bilinear splatting, has unit sum, and its centre of mass lies at the origin: blurred pictures do not shift.

Light adds up, so the blur acts on linear light before clipping: lamps leave trails. ``space=srgb`` averages the
file's values instead, as in data sets made without regard to gamma (Levin et al., CVPR 2009, of grey photographs).

Left out: camera roll and parallax (the same path is used all over the picture), moving objects, and the colour
fringes of a rolling shutter.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.plugins import Blur, Degradation, Image, Position, Scene, param, severity_or_draw
from defusion_cli.plugins.kernels import blur, convolve, from_light, line_psf, to_light

_STEPS = 256
_SAMPLES = 2048


@dataclass(frozen=True)
class MotionBlurParams:
    """Parameters of `MotionBlur`."""

    kind: str = param("shake", choices=("shake", "linear"), meaning="trembling hand, or an even straight line")
    length_px: float = param(15.0, unit="px", low=0.0, high=120.0, meaning="greatest extent of the path")
    angle_deg: float = param(0.0, unit="deg", low=0.0, high=180.0, meaning="direction, counter-clockwise from x")
    shake: float = param(0.5, unit="fraction", low=0.0, high=1.0, meaning="how much the hand trembles; 0: straight")
    softness_px: float = param(0.0, unit="px", low=0.0, high=3.0, meaning="optical blur across the path, as a sigma")
    highlights: float = param(0.0, unit="times white", low=0.0, high=20.0, meaning="extra brightness of clipped parts")
    space: str = param("linear", choices=("linear", "srgb"), meaning="values that are averaged: light, or the file's")


def _path(rng: np.random.Generator, shake: float) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Positions (complex, arbitrary scale) and weights at `_STEPS` equal steps along a random path."""
    accelerations = rng.standard_normal((_STEPS, 2)) @ np.array([1, 1j])
    chances, turns = rng.random((2, _STEPS))
    inertia, wander, jerk = rng.random(3)
    pace = np.cumsum(rng.standard_normal(_STEPS))
    # Boracchi and Foi take steps of a path of length 60 in 2000 pieces; with fewer steps, each one turns more.
    anxiety = 0.1 * shake
    step = 60 / (_STEPS - 1)
    velocity, position = complex(step), 0j
    positions = np.empty(_STEPS, np.complex128)
    for i in range(_STEPS):
        positions[i] = position
        pull = 10 * wander * complex(accelerations[i]) - 0.7 * inertia * position
        change = anxiety * step * pull
        if chances[i] < 0.2 * jerk * anxiety * 2000 / _STEPS:
            change += 2 * velocity * np.exp(1j * (np.pi + turns[i] - 0.5))
        velocity += change
        velocity *= step / max(abs(velocity), 1e-9)
        position += velocity
    pace -= pace.mean()
    weights = np.exp(1.3 * pace / np.abs(pace).max())
    return positions, weights / weights.sum()


def trajectory_psf(params: MotionBlurParams, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random path as a point spread function, odd and square, of unit sum, centred on its centroid."""
    positions, weights = _path(rng, params.shake)
    # Turned so that its principal direction is the one asked for, and scaled to the extent asked for.
    centred = positions - np.sum(weights * positions)
    direction = np.angle(np.sum(weights * centred**2)) / 2
    centred = centred * np.exp(1j * (np.deg2rad(params.angle_deg) - direction))
    extent = np.ptp(centred.real), np.ptp(centred.imag)
    centred *= params.length_px / max(extent)
    samples = np.linspace(0, _STEPS - 1, _SAMPLES)
    dense = np.interp(samples, np.arange(_STEPS), centred)
    mass = np.interp(samples, np.arange(_STEPS), weights)
    mass /= mass.sum()
    return _splat(dense - np.sum(mass * dense), mass)


def _splat(points: NDArray[np.complex128], mass: NDArray[np.float64]) -> NDArray[np.float32]:
    """Points about the origin on an odd, square grid; sharing each among four pixels keeps the centre of mass."""
    half = int(np.ceil(max(np.abs(points.real).max(), np.abs(points.imag).max()))) + 1
    side = 2 * half + 1
    x, y = points.real + half, half - points.imag
    column, row = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    right, below = x - column, y - row
    psf = np.zeros(side * side)
    for dy, dx, share in (
        (0, 0, (1 - right) * (1 - below)),
        (0, 1, right * (1 - below)),
        (1, 0, (1 - right) * below),
        (1, 1, right * below),
    ):
        psf += np.bincount((row + dy) * side + column + dx, mass * share, side * side)
    return psf.reshape(side, side).astype(np.float32)


class MotionBlur(Degradation[MotionBlurParams]):
    """A camera that shakes or pans."""

    id = "motion-blur"
    version = "2"
    summary = "Camera shake or a straight pan, in linear light, with trails of lamps"
    position = Position.SCENE
    uniform_blur = Blur.PATH
    Params = MotionBlurParams

    def sample(self, rng: np.random.Generator, severity: float | None = None) -> MotionBlurParams:
        """Extent from 2.5 to 35 px with `severity`; three in four shaken; half in linear light."""
        length = 2.5 + 32.5 * severity_or_draw(rng, severity) ** 1.5
        linear, bright, in_srgb = rng.random(3) < (0.25, 0.25, 0.5)
        highlights = float(rng.uniform(0.0, 4.0))
        return MotionBlurParams(
            kind="linear" if linear else "shake",
            length_px=length,
            angle_deg=float(rng.uniform(0.0, 180.0)),
            shake=float(rng.random() ** 2),
            softness_px=float(rng.uniform(0.0, 1.2)),
            highlights=highlights if bright else 0.0,
            space="srgb" if in_srgb else "linear",
        )

    def apply(
        self, image: Image, params: MotionBlurParams, rng: np.random.Generator, scene: Scene | None = None
    ) -> Image:
        """The shaken picture; `rng` draws the path of a ``shake``."""
        if params.length_px == params.softness_px == 0:
            return image.copy()
        if params.kind == "linear":
            psf = line_psf(params.length_px, params.angle_deg)
        else:
            psf = trajectory_psf(params, rng)
        if params.softness_px > 0:
            margin = int(np.ceil(3 * params.softness_px))
            psf = cv2.copyMakeBorder(psf, margin, margin, margin, margin, cv2.BORDER_CONSTANT)
            psf = blur(psf, params.softness_px)
        light = to_light(image, params.space, params.highlights)
        return from_light(convolve(light, psf), params.space)

    def neutral(self) -> MotionBlurParams:
        """A path of no extent."""
        return MotionBlurParams(length_px=0.0)


MOTION_BLUR = MotionBlur()

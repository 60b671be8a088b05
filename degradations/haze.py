"""Haze: the light that the air takes away, and the light that it adds.

Model (Koschmieder 1924; in this notation Narasimhan & Nayar, "Vision and the Atmosphere", IJCV 2002)::

    I(x) = J(x) t(x) + A (1 − t(x)),    t(x) = exp(−β(x) d(x)),    β(x) = β (1 + k · fBm(x))

J is the clean picture, A the airlight, β the scattering coefficient, d the distance. Distance is the relative
depth of the scene stretched between a nearest and a farthest point, so β = 0.6 … 1.8 with a far point about one
unit away gives the indoor part of RESIDE, and β = 0.04 … 0.2 per metre with a far point tens of metres away the
outdoor part (Li et al., "Benchmarking Single-Image Dehazing and Beyond", TIP 2019: A from 0.7 to 1 and 0.8 to 1).
The equation holds for linear light. Public training sets evaluate it on sRGB values, which is why that is the
default; in linear light the same β veils dark things much more. Patchy haze follows the idea of fractal density
fields; visibility at 2 % contrast is 3.912 / β.

Left out: multiple scattering (haze blurs what it hides), the wavelength dependence of β, and shadows in the
airlight.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.plugins import Degradation, Image, Position, Scene, param, pseudo_depth, severity_or_draw
from defusion_cli.plugins.kernels import fractal_noise, linear_to_srgb, srgb_to_linear

_INDOOR_SHARE = 0.5
_SRGB_SHARE = 0.9


@dataclass(frozen=True)
class HazeParams:
    """Parameters of `Haze`."""

    beta: float = param(1.0, unit="1/m", low=0.0, high=4.0, meaning="scattering coefficient β of the air")
    far_m: float = param(1.0, unit="m", low=0.1, high=200.0, meaning="distance of the farthest point")
    near: float = param(0.2, unit="fraction of far_m", low=0.0, high=1.0, meaning="distance of the nearest point")
    airlight: float = param(0.9, unit="fraction of full scale", low=0.3, high=1.0, meaning="brightness A of the air")
    cast: float = param(
        0.0, unit="fraction of full scale", low=-0.1, high=0.1, meaning="colour of the air: warm above 0, blue below"
    )
    patchiness: float = param(0.0, unit="fraction of beta", low=0.0, high=1.0, meaning="strength k of denser clouds")
    patch_px: float = param(200.0, unit="px", low=8.0, high=2000.0, meaning="size of the largest clouds")
    space: str = param("srgb", choices=("srgb", "linear"), meaning="values that the equation is applied to")


class Haze(Degradation[HazeParams]):
    """Scattering by mist or smoke between the scene and the lens."""

    id = "haze"
    version = "2"
    summary = "haze or fog that thickens with distance"
    position = Position.WATER
    odds_when_named = 300.0
    Params = HazeParams
    uses_depth = True

    def sample(self, rng: np.random.Generator, severity: float | None = None) -> HazeParams:
        """Optical depth of the farthest point from 0.2 (t = 0.8) to 3 (t = 0.05); see the base class."""
        s = severity_or_draw(rng, severity)
        optical_depth = 0.2 * 15.0**s * np.exp(rng.uniform(-0.1, 0.1))
        indoor, linear = rng.random() < _INDOOR_SHARE, rng.random() >= _SRGB_SHARE
        # RESIDE's two parts differ in the unit of depth; what matters to the picture is β · far_m.
        beta = rng.uniform(0.6, 1.8) if indoor else rng.uniform(0.04, 0.2)
        near = rng.uniform(0.1, 0.5) if indoor else rng.uniform(0.0, 0.2)
        airlight = rng.uniform(0.7 if indoor else 0.8, 1.0)
        patchiness = max(0.0, rng.uniform(-0.9, 0.45))
        return HazeParams(
            beta=float(beta),
            far_m=float(optical_depth / beta),
            near=float(near),
            airlight=float(airlight),
            cast=float(np.clip(rng.normal(0.0, 0.012), -0.03, 0.03)),
            patchiness=float(patchiness),
            patch_px=float(rng.uniform(150.0, 800.0)),
            space="linear" if linear else "srgb",
        )

    def apply(self, image: Image, params: HazeParams, rng: np.random.Generator, scene: Scene | None = None) -> Image:
        """`image` seen through the haze; uses ``scene.depth`` when there is one."""
        # One generator each, so that the clouds stay where they are when a depth map becomes known.
        cloud_rng, depth_rng = (np.random.default_rng(seed) for seed in rng.integers(2**63, size=2))
        depth = scene.depth if scene is not None else None
        if depth is None:
            depth = pseudo_depth(image, depth_rng)
        t = transmission(depth, params, cloud_rng)
        air = np.clip(params.airlight + params.cast * np.array([1.0, 0.0, -1.0]), 0.0, 1.0).astype(np.float32)
        if params.space == "srgb":
            return _veil(image, t, air)
        return linear_to_srgb(_veil(srgb_to_linear(image), t, srgb_to_linear(air)))

    def neutral(self) -> HazeParams:
        """Clean air."""
        return HazeParams(beta=0.0)


def transmission(depth: NDArray[np.float32], params: HazeParams, rng: np.random.Generator) -> NDArray[np.float32]:
    """Transmission t = exp(−β d), H×W in (0, 1], for relative `depth` (H×W in [0, 1])."""
    near = params.near * params.far_m
    optical_depth = depth * np.float32(params.beta * (params.far_m - near))
    optical_depth += np.float32(params.beta * near)
    if params.patchiness > 0:
        # Clouds are smooth: a quarter of the resolution shows them all.
        h, w = depth.shape
        coarse_shape = (-(-h // 4), -(-w // 4))
        coarse = fractal_noise(coarse_shape, rng, max(params.patch_px / 4, 2.0), octaves=4)
        coarse = np.maximum(1.0 + np.float32(params.patchiness) * coarse, 0.0)
        optical_depth *= cv2.resize(coarse, (w, h), interpolation=cv2.INTER_LINEAR)
    t: NDArray[np.float32] = cv2.exp(-optical_depth)
    return t


def _veil(image: Image, t: NDArray[np.float32], air: NDArray[np.float32]) -> Image:
    # A + (J − A) t, in OpenCV's vectorised loops: broadcasting along a last axis of three is slow in numpy.
    out = cv2.subtract(image, (*air.tolist(), 0.0))
    cv2.multiply(out, cv2.merge([t, t, t]), out)
    cv2.add(out, (*air.tolist(), 0.0), out)
    return np.clip(out, 0.0, 1.0, out=out)


HAZE = Haze()

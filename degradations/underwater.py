"""Underwater: sea water takes the red out of the light, and scatters the rest between the scene and the lens.

Model (Jaffe, "Computer modeling and the design of optimal underwater imaging systems", IEEE J. Oceanic Eng. 15(2),
1990, after McGlamery 1980; with the two different attenuations of Akkaynak & Treibitz, "A revised underwater image
formation model", CVPR 2018), in linear light and for each channel c::

    I_c = g · E_c · [ (J_c + w (G_σ ∗ J_c − J_c)) e^(−β_c z) + v · (s / β_c) · (1 − e^(−ρ β_c z)) ]
    E_c = e^(−K_c D),    β_c = K_c + s,    w = z / z_far

J is the clean picture, z the distance in water, D the depth below the surface. K_c is the diffuse attenuation of the
water type (Jerlov, *Marine Optics*, 1976, table XXVII: five oceanic, five coastal types; means over 600–650, 525–550
and 450–475 nm for R, G, B). s is scattering, which particles do to all colours alike, and s / β_c the colour that
water has at great distance: what is scattered before it is absorbed. Backscatter has a coefficient of its own, ρ β_c.
v is the share of ambient light that water turns towards the lens; it falls from the top of the picture to the
bottom, since light comes from above. Forward scattering blurs with distance. The camera exposes for the light there
is: g = E^(−exposure), E being the mean of E_c.

Left out: lamps, white balance (most files show the cast), floating particles, caustics, flat ports.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.plugins import Degradation, Image, Position, Scene, param, pseudo_depth, severity_or_draw
from defusion_cli.plugins.kernels import blur, linear_to_srgb, srgb_to_linear

# Diffuse attenuation K of red, green and blue light in 1/m (Jerlov 1976).
ATTENUATION = {
    "I": (0.297, 0.053, 0.018),
    "IA": (0.305, 0.058, 0.026),
    "IB": (0.310, 0.063, 0.035),
    "II": (0.330, 0.082, 0.065),
    "III": (0.370, 0.118, 0.126),
    "1C": (0.375, 0.125, 0.210),
    "3C": (0.395, 0.195, 0.340),
    "5C": (0.470, 0.305, 0.495),
    "7C": (0.555, 0.475, 0.800),
    "9C": (0.680, 0.705, 1.415),
}
_WATERS = tuple(ATTENUATION)
# Nobody photographs much in the brown water of type 9C.
_SHARES = np.array([1, 1, 1, 1, 1, 1, 1, 1, 0.7, 0.3]) / 9


@dataclass(frozen=True)
class UnderwaterParams:
    """Parameters of `Underwater`."""

    water: str = param("II", choices=_WATERS, meaning="Jerlov type: I to III open sea, 1C to 9C coast")
    far_m: float = param(5.0, unit="m", low=0.0, high=50.0, meaning="distance of the farthest point")
    near: float = param(0.3, unit="fraction of far_m", low=0.0, high=1.0, meaning="distance of the nearest point")
    depth_m: float = param(4.0, unit="m", low=0.0, high=50.0, meaning="depth D of the scene below the surface")
    scatter: float = param(0.1, unit="1/m", low=0.0, high=3.0, meaning="scattering s by particles, all colours alike")
    veil: float = param(0.7, unit="fraction", low=0.0, high=2.0, meaning="ambient light v turned towards the lens")
    backscatter: float = param(
        1.0, unit="multiple of beta", low=0.2, high=3.0, meaning="coefficient of backscatter: how soon the veil is full"
    )
    top_light: float = param(
        0.3, unit="fraction of veil", low=0.0, high=1.0, meaning="how much the veil is brighter above and darker below"
    )
    blur_px: float = param(1.5, unit="px", low=0.0, high=20.0, meaning="width σ of forward scattering, farthest point")
    exposure: float = param(
        0.8, unit="fraction", low=0.0, high=1.0, meaning="how much of the light lost to depth the camera makes good"
    )


class Underwater(Degradation[UnderwaterParams]):
    """Absorption and scattering by sea water."""

    id = "underwater"
    version = "2"
    summary = "sea water: colours lost with distance and depth, a blue or green veil, blur"
    position = Position.WATER
    Params = UnderwaterParams
    uses_depth = True

    def sample(self, rng: np.random.Generator, severity: float | None = None) -> UnderwaterParams:
        """Mean optical depth of the farthest point from 0.35 to 1.9, of the water above from 0.2 to 1; any water."""
        s = severity_or_draw(rng, severity)
        water = _WATERS[int(rng.choice(len(_WATERS), p=_SHARES))]
        absorbed = np.array(ATTENUATION[water])
        # Waters that absorb more carry more particles, too.
        scatter = rng.uniform(0.02, 0.08) + rng.uniform(0.3, 1.2) * absorbed[1]
        far_m = 0.35 * 5.5**s * np.exp(rng.uniform(-0.15, 0.15)) / float(np.mean(absorbed + scatter))
        depth_m = 0.2 * 5.0**s * np.exp(rng.uniform(-0.5, 0.3)) / float(np.mean(absorbed))
        return UnderwaterParams(
            water=water,
            far_m=float(np.clip(far_m, 0.1, 30.0)),
            near=float(rng.uniform(0.15, 0.6)),
            depth_m=float(np.clip(depth_m, 0.1, 30.0)),
            scatter=float(scatter),
            veil=float(rng.uniform(0.35, 0.9)),
            backscatter=float(rng.uniform(0.8, 1.4)),
            top_light=float(rng.uniform(0.0, 0.5)),
            blur_px=float(rng.uniform(0.0, 1.0) * (0.4 + 2.6 * s)),
            exposure=float(rng.uniform(0.6, 1.0)),
        )

    def apply(
        self, image: Image, params: UnderwaterParams, rng: np.random.Generator, scene: Scene | None = None
    ) -> Image:
        """`image` seen through the water; uses ``scene.depth`` when there is one."""
        depth = scene.depth if scene is not None else None
        if depth is None:
            depth = pseudo_depth(image, rng)
        distance = np.float32(params.near) + np.float32(1 - params.near) * depth  # fraction of far_m
        light = srgb_to_linear(image)
        if params.blur_px > 0 and params.far_m > 0:
            spread = blur(light, params.blur_px)
            spread -= light
            spread *= cv2.merge([distance, distance, distance])
            light += spread
        return linear_to_srgb(_through_water(light, distance * np.float32(params.far_m), params))

    def neutral(self) -> UnderwaterParams:
        """No water."""
        return UnderwaterParams(far_m=0.0, depth_m=0.0)


def ambient(params: UnderwaterParams) -> NDArray[np.float64]:
    """Daylight E_c · g at the depth of the scene as the camera exposes it: R, G, B, 1 at the surface."""
    light = np.exp(-np.array(ATTENUATION[params.water]) * params.depth_m)
    return np.asarray(light * light.mean() ** -params.exposure)


def water_colour(params: UnderwaterParams) -> NDArray[np.float64]:
    """Linear light (R, G, B) of water without end, at half the height of the picture."""
    beta = np.array(ATTENUATION[params.water]) + params.scatter
    return np.asarray(ambient(params) * params.veil * params.scatter / beta)


def _through_water(
    light: NDArray[np.float32], distance_m: NDArray[np.float32], params: UnderwaterParams
) -> NDArray[np.float32]:
    # Overwrites `light`, channel by channel: fresh memory costs more than these sums.
    height = light.shape[0]
    from_above = np.linspace(1 + params.top_light, 1 - params.top_light, height, dtype=np.float32)[:, None]
    plane = np.empty_like(distance_m)
    channels = zip(ATTENUATION[params.water], ambient(params), water_colour(params), strict=True)
    for channel, (absorbed, daylight, veil) in enumerate(channels):
        beta = absorbed + params.scatter
        direct = cv2.exp(distance_m * np.float32(-beta))
        veiled = cv2.exp(distance_m * np.float32(-beta * params.backscatter))
        np.subtract(1, veiled, out=veiled)
        veiled *= from_above * np.float32(veil)
        cv2.extractChannel(light, channel, dst=plane)
        plane *= direct
        plane *= np.float32(daylight)
        plane += veiled
        cv2.insertChannel(plane, light, channel)
    return light


UNDERWATER = Underwater()

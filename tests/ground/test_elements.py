"""The elements have the statistics and the geometry that their names promise."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from defusion_cli.ground.colours import COLORCHECKER, COLOURS, GREY_STEPS, patch_grid
from defusion_cli.ground.regular import REGULAR, binary_star, sine_star
from defusion_cli.ground.shapes import bars, centred_grid, contrast_at
from defusion_cli.ground.stochastic import STOCHASTIC, dead_leaves, power_law_noise

Element = Callable[[np.random.Generator, int, int], NDArray[np.float32]]
ELEMENTS: dict[str, Element] = {
    **REGULAR,
    **{name: draw for name, (_, draw) in STOCHASTIC.items()},
    **{name: draw for name, (_, draw) in COLOURS.items()},
}


def power_slope(plane: NDArray[np.floating], low: float = 0.02, high: float = 0.2) -> float:
    """Slope of log power over log frequency, frequencies in cycles/px, of a Hann-windowed square plane."""
    size = len(plane)
    window = np.hanning(size)
    power = np.abs(np.fft.fft2((plane - plane.mean()) * window * window[:, None])) ** 2
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    edges = np.geomspace(low, high, 9)
    means = [power[(frequency >= a) & (frequency < b)].mean() for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return float(np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(means), 1)[0])


def around(plane: NDArray[np.float32], radius: float, samples: int = 2048) -> NDArray[np.float32]:
    """`plane` along a circle about its middle."""
    angle = np.linspace(0, 2 * np.pi, samples, endpoint=False)
    middle = (len(plane) - 1) / 2
    x, y = middle + radius * np.cos(angle), middle + radius * np.sin(angle)
    return cv2.remap(plane, x.astype(np.float32)[None], y.astype(np.float32)[None], cv2.INTER_CUBIC)[0]


@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("shape", [(112, 112), (83, 141), (12, 20)])
def test_every_element_fills_its_box(name: str, shape: tuple[int, int]) -> None:
    pictures = [ELEMENTS[name](np.random.default_rng(seed), *shape) for seed in range(6)]
    for picture in pictures:
        assert picture.shape == (*shape, 3)
        assert picture.dtype == np.float32
        assert np.isfinite(picture).all()
    assert not all(np.array_equal(pictures[0], picture) for picture in pictures[1:])
    again = ELEMENTS[name](np.random.default_rng(3), *shape)
    assert np.array_equal(again, pictures[3])


def test_dead_leaves_have_the_spectrum_of_natural_images(rng: np.random.Generator) -> None:
    leaves = dead_leaves(rng, 256).astype(np.float64)
    assert np.array_equal(leaves[..., 0], leaves[..., 2])
    assert -2.4 < power_slope(leaves[..., 0]) < -1.7


def test_dead_leaves_cover_everything_and_use_all_greys(rng: np.random.Generator) -> None:
    leaves = dead_leaves(rng, 192)[..., 0]
    background = np.mean(leaves == 128)
    assert background < 0.02
    assert 110 < leaves.mean() < 145
    assert leaves.std() > 60


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_power_law_noise_falls_as_told(rng: np.random.Generator, exponent: float) -> None:
    slopes = [power_slope(power_law_noise(rng, 128, 128, exponent), 0.05, 0.4) for _ in range(4)]
    assert np.mean(slopes) == pytest.approx(-2 * exponent, abs=0.25)


@pytest.mark.parametrize("star", [sine_star, binary_star])
@pytest.mark.parametrize("cycles", [12, 24, 36, 72])
def test_star_has_as_many_cycles_on_every_circle(star: Callable[..., NDArray[np.float32]], cycles: int) -> None:
    plane = star(224, 224, cycles)
    for radius in (70.0, 100.0):
        spectrum = np.abs(np.fft.rfft(around(plane, radius)))
        spectrum[0] = 0
        assert int(spectrum.argmax()) == cycles


def test_sine_star_has_the_contrast_of_the_resolution_limit() -> None:
    plane = sine_star(224, 224, 36)
    for radius in (40.0, 100.0):
        amplitude = 2 * np.abs(np.fft.rfft(around(plane, radius)))[36] / 2048
        assert amplitude == pytest.approx(0.5 * float(contrast_at(36 / (2 * np.pi * radius))), abs=0.01)
    assert plane[112, 112] == pytest.approx(0.5, abs=1e-6)  # beyond the Nyquist limit nothing is left


def test_bars_have_their_pitch() -> None:
    x, _ = centred_grid(4, 240)
    spectrum = np.abs(np.fft.rfft(bars(x, 12.0)[0] - 0.5))
    assert int(spectrum.argmax()) == 20


def test_colorchecker_patches_are_exact() -> None:
    published = {
        0: (115, 82, 68),
        1: (194, 150, 130),
        14: (175, 54, 60),
        17: (8, 133, 161),
        18: (243, 243, 242),
        23: (52, 52, 52),
    }
    for index, colour in published.items():
        assert tuple(np.rint(255 * COLORCHECKER[index]).astype(int)) == colour
    chart = patch_grid(COLORCHECKER.reshape(4, 6, 3), 112, 112, gap=0.16, surround=0.11)
    for index, colour in enumerate(COLORCHECKER):
        row, column = divmod(index, 6)
        patch = chart[round((row + 0.5) * 28) - 5 :][:10, round((column + 0.5) * 112 / 6) - 4 :][:, :8]
        assert np.array_equal(patch, np.broadcast_to(colour, patch.shape))
    assert np.all(chart[0] == np.float32(0.11))


def test_grey_steps_fall() -> None:
    assert len(GREY_STEPS) == 20
    assert np.all(np.diff(GREY_STEPS[:, 1]) < 0)
    assert np.array_equal(GREY_STEPS[:, 0], GREY_STEPS[:, 2])


def test_shares_add_up() -> None:
    for pool in (STOCHASTIC, COLOURS):
        assert sum(share for share, _ in pool.values()) == pytest.approx(1.0)

"""Shared kernels: exact where they claim to be, at every size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from defusion_cli.plugins.kernels import convolve, from_light, linear_to_srgb, look_up, srgb_to_linear, to_light


def test_light_and_back(rng: np.random.Generator) -> None:
    image = rng.random((50, 7, 3), dtype=np.float32)
    light = np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    assert np.abs(srgb_to_linear(image) - light).max() < 2e-5
    assert np.abs(linear_to_srgb(srgb_to_linear(image)) - image).max() < 2e-4


def test_look_up_takes_any_layout_and_clips(rng: np.random.Generator) -> None:
    table = np.linspace(0.0, 1.0, 65536).astype(np.float32)
    values = rng.uniform(-0.5, 1.5, (300, 250, 3)).astype(np.float32)
    for view in (values, values[::-1, ::-1], values.swapaxes(0, 1), values[:1, :1]):
        assert np.abs(look_up(view, table) - np.clip(view, 0, 1)).max() < 2e-5


@pytest.mark.parametrize("psf_shape", [(3, 3), (11, 11), (13, 13), (31, 17), (61, 61)])
@pytest.mark.parametrize("shape", [(64, 80, 3), (33, 40), (7, 3, 3), (1, 1, 3)])
def test_convolve_is_the_direct_sum(
    shape: tuple[int, ...], psf_shape: tuple[int, int], rng: np.random.Generator
) -> None:
    image = rng.random(shape, dtype=np.float32)
    psf = rng.random(psf_shape, dtype=np.float32)
    psf /= psf.sum()
    y, x = psf_shape[0] // 2, psf_shape[1] // 2
    padded = cv2.copyMakeBorder(image, y, y, x, x, cv2.BORDER_REFLECT_101)
    expected = np.zeros(shape)
    for row in range(psf_shape[0]):
        for column in range(psf_shape[1]):
            shifted = padded[2 * y - row :, 2 * x - column :][: shape[0], : shape[1]]
            expected += psf[row, column] * shifted
    assert np.abs(convolve(image, psf) - expected).max() < 2e-6


def test_only_white_highlights_are_raised() -> None:
    colours = np.float32([[[1, 1, 1], [1, 1, 0.2], [0.5, 0.5, 0.5]]])
    raised = to_light(colours, "srgb", 3.0)
    assert np.allclose(raised, [[[4, 4, 4], [1, 1, 0.2], [0.5, 0.5, 0.5]]])
    assert np.allclose(from_light(raised, "srgb")[0, 0], 1.0)
    assert np.allclose(from_light(to_light(colours, "linear"), "linear"), colours, atol=2e-4)

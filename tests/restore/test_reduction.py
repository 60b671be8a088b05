"""Damage estimated on a reduced photograph and brought back up: detail, edges, bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pytest
import torch

from defusion_cli.canvas import ArrayPhoto, Canvas, Pixels, Window, quantise
from defusion_cli.diffusion import DefusionPipeline
from defusion_cli.restore.pixels import restore_canvas, restore_pixels
from defusion_cli.restore.reduction import ReducedPhoto, enlarge


class OnceOnly(ArrayPhoto):
    """A photograph of which rows above `done` must not be read any more."""

    done = 0

    def pixels(self, window: Window) -> Pixels:
        """The pixels in a window."""
        assert window[0].start >= self.done
        return super().pixels(window)


def _enlarged(photo: Pixels, factor: int, damage: Pixels, cuts: Sequence[int] = ()) -> Pixels:
    """The whole of what `enlarge` hands out for `damage`, given to it in pieces that end at `cuts`."""
    ends = [*cuts, len(damage)]
    pieces: Iterator[tuple[slice, Pixels]] = (
        (slice(start, end), damage[start:end]) for start, end in zip([0, *cuts], ends, strict=True)
    )
    once, parts = OnceOnly(photo), []
    for rows, part in enlarge(once, factor, pieces):
        assert rows.start == once.done and len(part) == rows.stop - rows.start
        once.done = rows.stop
        parts.append(part)
    return np.concatenate(parts)


def _reduced(photo: Pixels, factor: int) -> Pixels:
    reduced = ReducedPhoto(ArrayPhoto(photo), factor)
    height, width = reduced.size
    return reduced.pixels((slice(0, height), slice(0, width)))


@pytest.fixture
def detailed(photo: np.ndarray) -> Pixels:
    """A photograph with much detail in the finest pixels, 128×160."""
    grain = np.random.default_rng(0).normal(0, 0.04, photo.shape)
    return np.clip(0.2 + 0.6 * photo + grain, 0, 1).astype(np.float32)


def test_reduced_pixels_are_means_over_squares(detailed: Pixels) -> None:
    whole = _reduced(detailed, 4)
    np.testing.assert_allclose(whole, detailed.reshape(32, 4, 40, 4, 3).mean(axis=(1, 3)), atol=1e-6)
    window = slice(3, 9), slice(11, 40)
    np.testing.assert_allclose(ReducedPhoto(ArrayPhoto(detailed), 4).pixels(window), whole[window], atol=1e-6)
    odd = _reduced(detailed[:125, :157], 3)
    assert odd.shape == (42, 53, 3)
    np.testing.assert_allclose(odd[-1, 0], detailed[123:125, :3].mean(axis=1)[[0, 1, 1]].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("factor", [2, 4])
def test_a_veil_is_taken_from_the_finest_detail_too(detailed: Pixels, factor: int) -> None:
    # Haze of transmission t: x = J t + A (1 − t), so that y = x − J is affine in x.
    rows = np.linspace(0.35, 0.8, len(detailed), dtype=np.float32)[:, None, None]
    hazy = detailed * rows + 0.9 * (1 - rows)
    damage = _reduced(hazy, factor) - _reduced(detailed, factor)
    height, width = detailed.shape[:2]
    smooth = cv2.resize(damage, (width, height), interpolation=cv2.INTER_CUBIC)
    errors = [float(np.std(hazy - y - detailed)) for y in (smooth, _enlarged(hazy, factor, damage))]
    assert errors[1] < 0.6 * errors[0]


def test_detail_stays_where_damage_does_not_depend_on_it(detailed: Pixels) -> None:
    y, x = np.mgrid[:128, :160] / 40
    cloud = (0.1 * np.sin(x + 2 * y) ** 2)[..., None].astype(np.float32)
    damaged = detailed + cloud
    damage = _reduced(damaged, 4) - _reduced(detailed, 4)
    estimated = _enlarged(damaged, 4, damage)
    finest = damaged - cv2.resize(_reduced(damaged, 4), (160, 128), interpolation=cv2.INTER_CUBIC)
    assert np.std(estimated - cloud) < 0.1 * np.std(finest)
    # A picture that is damaged nowhere keeps every pixel.
    assert not _enlarged(detailed, 4, np.zeros_like(damage)).any()


def test_a_hard_edge_of_damage_is_found_again() -> None:
    # A streak five pixels wide over a plain wall, reduced by four.
    clean = np.full((64, 96, 3), 0.4, np.float32)
    damaged = clean.copy()
    damaged[:, 41:46] += 0.4
    damage = _reduced(damaged, 4) - 0.4
    smooth = cv2.resize(damage, (96, 64), interpolation=cv2.INTER_CUBIC)
    left, right = (float(np.abs(damaged - y - clean).max()) for y in (smooth, _enlarged(damaged, 4, damage)))
    assert left > 0.15 and right < 0.05


@pytest.mark.parametrize("factor", [2, 3, 7])
def test_pieces_and_bands_change_nothing(detailed: Pixels, factor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = detailed[:125, :157]
    damage = 0.3 * _reduced(photo, factor)
    expected = _enlarged(photo, factor, damage)
    assert expected.shape == photo.shape and np.isfinite(expected).all()
    cut = len(damage) // 3
    monkeypatch.setattr("defusion_cli.canvas.BAND_PX", 4000)
    for cuts in [(), (cut,), (2, 3, cut, cut + 1)]:
        np.testing.assert_allclose(_enlarged(photo, factor, damage, cuts), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 130), (301, 200)])
def test_a_picture_at_a_quarter_of_its_size(
    pipeline: DefusionPipeline, tokens: torch.Tensor, shape: tuple[int, int]
) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    canvas = Canvas(samples.copy())
    restored = restore_pixels(pipeline, canvas.pixels(), tokens, tile=128, reduction=4)
    again = restore_pixels(pipeline, canvas.pixels(), tokens, tile=128, reduction=4)
    np.testing.assert_array_equal(restored, again)
    restore_canvas(pipeline, canvas, tokens, tile=128, reduction=4)
    np.testing.assert_array_equal(canvas.samples, quantise(restored, 8))
    assert not np.array_equal(canvas.samples, samples)

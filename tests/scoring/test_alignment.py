"""RealBlur's registration: against its authors' procedure, and against what it is there for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from defusion_cli.errors import DataError
from defusion_cli.scoring.alignment import align
from defusion_cli.scoring.fidelity import mean_absolute_error, psnr, ssim
from defusion_cli.scoring.protocols import PAPER

REALBLUR = PAPER["realblur-j"]


@pytest.fixture
def moved(photo):
    """The photograph seen a little from the side, two thirds as bright."""
    warp = np.array([[1.004, 0.003, 1.7], [-0.002, 0.997, -1.2], [1e-5, -8e-6, 1]], np.float32)
    size = photo.shape[1], photo.shape[0]
    return cv2.warpPerspective(photo, warp, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT) * 0.66


def test_position_and_brightness_are_found(photo, moved):
    aligned, inside = align(moved, photo)
    before, after = psnr(moved, photo, REALBLUR), psnr(aligned, photo, REALBLUR, inside)
    assert before < 18 and after > 32
    assert 0.9 < inside.mean() < 1
    assert ssim(aligned, photo, REALBLUR, inside) > 0.97
    assert mean_absolute_error(aligned, photo, inside) < 0.02


def test_scores_are_those_of_the_authors_procedure(photo, moved):
    """Masked pictures, sums over the mask, SSIM without a margin of five pixels."""
    aligned, inside = align(moved, photo)
    mask = inside[..., None].astype(np.float64).repeat(3, axis=2)
    a, b = aligned * mask, photo * mask
    error = np.sum((a - b) ** 2) / mask.sum()
    assert psnr(aligned, photo, REALBLUR, inside) == pytest.approx(10 * np.log10(1 / error), abs=1e-6)
    full = structural_similarity(
        b, a, channel_axis=2, gaussian_weights=True, use_sample_covariance=False, data_range=1, full=True
    )[1]
    cut = np.s_[5:-5, 5:-5]
    per_channel = (full * mask)[cut].sum(axis=(0, 1)) / mask[cut].sum(axis=(0, 1))
    assert ssim(aligned, photo, REALBLUR, inside) == pytest.approx(per_channel.mean(), abs=1e-6)


def test_an_aligned_picture_stays_where_it_is(photo):
    aligned, inside = align(photo, photo)
    assert inside.all()
    assert np.abs(aligned - photo).max() < 1e-3


def test_pictures_without_anything_in_common(photo):
    with pytest.raises(DataError, match="cannot be registered"):
        align(np.zeros_like(photo), photo)
    with pytest.raises(DataError, match="cannot be registered"):
        align(np.full_like(photo, 0.5), photo)

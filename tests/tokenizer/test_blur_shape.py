"""What tells motion blur from defocus, and what must not matter to it."""

from __future__ import annotations

import numpy as np
import torch

from defusion_cli.ground import draw_ground
from defusion_cli.tokenizer.statistics import blur_shape
from degradations.defocus_blur import DEFOCUS_BLUR, DefocusBlurParams
from degradations.motion_blur import MOTION_BLUR, MotionBlurParams


def shape_of(residual: np.ndarray) -> torch.Tensor:
    return blur_shape(torch.from_numpy(np.ascontiguousarray(residual.transpose(2, 0, 1)))[None])[0]


def residuals(seed: int, angle: float = 30.0) -> tuple[np.ndarray, np.ndarray]:
    """Of a straight path and of an aperture, about equally wide, on the same ground."""
    rng = np.random.default_rng(seed)
    ground = draw_ground(rng)
    path = MotionBlurParams(kind="linear", length_px=14.0, angle_deg=angle, softness_px=0.0)
    return (
        MOTION_BLUR.apply(ground, path, rng) - ground,
        DEFOCUS_BLUR.apply(ground, DefocusBlurParams(radius_px=5.0), rng) - ground,
    )


def test_edges_differ_with_their_direction_under_a_path_only() -> None:
    # After 12 means and 12 deviations come the harmonics of each row; row 1 is how energy changes from 1 to 2 pixels.
    pairs = [[shape_of(residual)[24:].view(12, 4)[1, 0] for residual in residuals(seed)] for seed in range(6)]
    assert all(path > 2 * aperture for path, aperture in pairs), pairs


def test_a_quarter_turn_changes_nothing() -> None:
    path, _ = residuals(0)
    turned = np.rot90(path).copy()
    torch.testing.assert_close(shape_of(turned), shape_of(path), atol=0.03, rtol=0)


def test_nothing_at_all_is_finite_at_every_size() -> None:
    for side in (8, 16, 224):
        assert blur_shape(torch.zeros(2, 3, side, side)).isfinite().all()

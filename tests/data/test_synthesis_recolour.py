"""Photographs in other colours: everything stays a photograph, and the same seed gives the same."""

import numpy as np
from skimage import data

from defusion_cli.data.synthesis import recoloured


def test_colours_change_and_what_is_seen_stays():
    photo = (data.astronaut()[::4, ::4] / 255).astype(np.float32)
    twins = [[recoloured(photo, 1.0, np.random.default_rng(seed)) for seed in range(12)] for _ in range(2)]
    for view, again in zip(*twins, strict=True):
        assert view.dtype == np.float32 and view.shape == photo.shape and view.min() >= 0 and view.max() <= 1
        assert np.array_equal(view, again)
        assert np.corrcoef(view.mean(2).ravel(), photo.mean(2).ravel())[0, 1] > 0.9
    means = np.array([view.mean((0, 1)) for view in twins[0]])
    assert means.std(0).min() > 0.03
    faint = recoloured(photo, 0.05, np.random.default_rng(0))
    assert np.abs(faint - photo).mean() < 0.02

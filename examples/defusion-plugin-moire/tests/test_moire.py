import numpy as np
from defusion_plugin_moire import MOIRE, MoireParams

from defusion_cli.plugins import check_degradation


def test_moire_keeps_the_contract() -> None:
    check_degradation(MOIRE)


def test_the_bands_have_the_period_that_was_asked_for() -> None:
    params = MoireParams(depth=0.5, period_px=16, angle_deg=0, bend=0, colour=0)
    row = MOIRE.apply(np.ones((4, 256, 3), np.float32), params, np.random.default_rng(0))[0, :, 0]
    assert np.argmax(np.abs(np.fft.rfft(row - row.mean()))) == 256 / 16

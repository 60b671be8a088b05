"""What the grain of a photograph tells, and that tiles, tensors and large pictures are told the same."""

import numpy as np
import pytest
import torch
from skimage import data

from defusion_cli.canvas import CROP_PX, ArrayPhoto, crop_corners
from defusion_cli.cepstrum import _by_products, _tables, describe_blur
from defusion_cli.diffusion import DegradationUNet
from defusion_cli.grain import FINE_FEATURES, GRAIN_FEATURES, grain_of, read_grain
from defusion_cli.plugins import apply_recipe, draw_recipe, installed_plugins


@pytest.fixture(scope="module")
def photo():
    return (data.astronaut()[:448, :448] / 255).astype(np.float32)


def tensor(pixels):
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def damaged(photo, plugin_id, **params):
    plugins = installed_plugins()
    recipe = draw_recipe([plugin_id], plugins, np.random.default_rng(0), 0.5, {plugin_id: params})
    return apply_recipe(photo, recipe, plugins)


def test_a_linear_map_of_grain_tells_sigma_and_quality(photo):
    """Least squares on one photograph's left half; the right half is told to within 15 %."""
    halves = photo[:, :224], photo[:, 224:]
    for plugin_id, name, values, fixed in (
        ("noise", "sigma", np.geomspace(4, 50, 12), {"kind": "gaussian", "unit": "sigma"}),
        ("jpeg", "quality", np.linspace(10, 90, 12).round(), {"first_quality": 100, "shift_x": 0, "shift_y": 0}),
    ):
        x, y = (
            np.stack(
                [
                    read_grain(tensor(damaged(half, plugin_id, **fixed, **{name: v})))[0, :FINE_FEATURES].numpy()
                    for v in values
                ]
            )
            for half in halves
        )
        goal = np.log(values)
        centre = x.mean(0)
        weights = (x - centre).T @ np.linalg.solve(
            (x - centre) @ (x - centre).T + 1e-2 * np.eye(12), goal - goal.mean()
        )
        told = (y - y.mean(0)) @ weights + goal.mean()
        assert np.abs(told - goal).mean() < 0.15, (plugin_id, np.exp(told).round(1), values)


def test_white_noise_and_smoothed_grain_of_equal_size_differ(photo):
    rng = np.random.default_rng(0)
    white = rng.normal(0, 0.1, photo.shape).astype(np.float32)
    smooth = (white + np.roll(white, 1, 0) + np.roll(white, 1, 1) + np.roll(white, (1, 1), (0, 1))) / 2
    a, b = (read_grain(tensor(np.clip(photo + noise, 0, 1)))[0] for noise in (white, smooth))
    assert (a - b).abs().max() > 0.3


def test_a_photo_read_in_windows_and_a_tensor_have_the_same_grain(photo):
    for height, width in ((448, 448), (200, 130), (100, 300), (40, 70)):
        part = photo[:height, :width]
        torch.testing.assert_close(grain_of(ArrayPhoto(part)), read_grain(tensor(part)))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 300), (128, 128), (129, 4000)])
def test_grain_of_any_size_is_finite(height, width):
    corners = crop_corners(height, width)
    assert all(top % 8 == 0 and left % 8 == 0 for top, left in corners)
    assert all(left + CROP_PX <= max(width, CROP_PX) for _, left in corners)
    for value in (0.0, 1.0):
        grain = read_grain(torch.full((2, 3, height, width), value))
        assert grain.shape == (2, GRAIN_FEATURES) and grain.isfinite().all() and grain.abs().max() < 5


def test_the_cepstrum_is_that_of_textbooks(photo):
    """|FFT|² to its logarithm and back, averaged over crops under Hann's window."""
    crops = torch.from_numpy(np.stack([photo[:128, :128], photo[128:256, 64:192]]).transpose(0, 3, 1, 2))
    hann = torch.hann_window(128)[:, None] * torch.hann_window(128)
    grey = crops.mean(1)
    power = torch.fft.fft2((grey - grey.mean((1, 2), keepdim=True)) * hann).abs().square() / hann.square().sum()
    cepstrum = torch.fft.ifft2((power + 1 / 255**2 / 12).log().mean(0)).real
    told = describe_blur(crops).unflatten(0, (33, 17))
    torch.testing.assert_close(
        _by_products(grey, *(torch.from_numpy(table) for table in _tables()[1:3])),
        torch.fft.rfft2(grey).abs().square(),
        rtol=1e-3,
        atol=0.1,
    )
    for down, right in ((-16, 3), (-5, 0), (0, 5), (7, 16)):
        expected = 3 * (1 + (down**2 + right**2) ** 0.5) * float(cepstrum[down, right])
        assert float(told[16 + down, right]) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("angle", "down", "right"), [(0, 0, 12), (90, -12, 0), (45, -8, 8)])
def test_the_cepstrum_shows_how_far_and_whither_the_camera_moved(photo, angle, down, right):
    blur = {"kind": "linear", "length_px": 11.0, "angle_deg": angle, "softness_px": 0, "highlights": 0, "space": "srgb"}
    blurred, sharp = (
        read_grain(tensor(picture))[0, FINE_FEATURES:].unflatten(0, (33, 17))
        for picture in (damaged(photo, "motion-blur", **blur), photo)
    )
    change = blurred - sharp
    change[13:20, :4] = 0  # near the origin everything changes
    darkest = divmod(int(change.argmin()), 17)
    assert darkest == pytest.approx((16 + down, right), abs=1.1)


def test_the_network_is_told_the_grain_of_the_whole(photo):
    torch.manual_seed(0)
    unet = DegradationUNet(widths=(8, 16), blocks=(1, 1), cross_attention_dim=32, condition_dim=16, heads=2, grain=True)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    lq = 2 * tensor(photo) - 1
    sample, time, tokens = torch.cat([lq, lq], 1), torch.tensor([999]), torch.randn(1, 9, 32)
    with torch.no_grad():
        by_itself = unet(sample, time, tokens).sample
        told = unet(sample, time, tokens, {"grain": read_grain(tensor(photo))}).sample
        noisy = unet(sample, time, tokens, {"grain": read_grain(tensor(damaged(photo, "noise")))}).sample
    torch.testing.assert_close(by_itself, told)
    assert (noisy - told).abs().max() > 1e-3

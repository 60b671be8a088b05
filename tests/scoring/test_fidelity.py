from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from defusion_cli.errors import DataError, UsageError
from defusion_cli.scoring.fidelity import mean_absolute_error, psnr, psnr_b, ssim
from defusion_cli.scoring.protocols import GENERAL, PAPER, find_protocol

PYIQA, RGB, Y = (GENERAL[name] for name in ("pyiqa", "rgb", "y"))


@pytest.fixture
def pair(photo, rng):
    """A photograph of whole 8-bit levels, and a noisy copy."""
    clean = np.rint(photo * 255) / 255
    noisy = np.rint(np.clip(clean + rng.normal(0, 0.05, clean.shape), 0, 1) * 255) / 255
    return noisy.astype(np.float32), clean.astype(np.float32)


def test_rgb_is_what_scikit_image_computes(pair):
    a, b = (image.astype(np.float64) for image in pair)
    assert psnr(*pair, RGB) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1), abs=1e-6)
    expected = structural_similarity(
        a, b, channel_axis=2, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(*pair, RGB) == pytest.approx(expected, abs=1e-6)
    assert ssim(*pair, PAPER["dpdd"]) == pytest.approx(
        structural_similarity(a, b, channel_axis=2, data_range=1), abs=1e-6
    )
    assert mean_absolute_error(*pair) == pytest.approx(np.abs(a - b).mean(), abs=1e-9)


def test_studio_luma_is_matlabs(pair):
    """rgb2ycbcr of MATLAB: Y = 16 + 65.481 R + 128.553 G + 24.966 B for R, G, B in [0, 1]."""
    levels = (np.rint(image.astype(np.float64) * 255) for image in pair)  # MATLAB has read 8-bit files
    a, b = (16 + level / 255 @ [65.481, 128.553, 24.966] for level in levels)
    assert psnr(*pair, Y) == pytest.approx(10 * math.log10(255**2 / np.mean((a - b) ** 2)), abs=1e-6)
    a, b = np.rint(a), np.rint(b)
    assert psnr(*pair, PAPER["rain1400"]) == pytest.approx(10 * math.log10(255**2 / np.mean((a - b) ** 2)), abs=1e-6)
    expected = structural_similarity(
        a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(*pair, PAPER["rain1400"]) == pytest.approx(expected, abs=1e-6)


def test_the_two_lumas_differ_by_a_constant(pair):
    full = replace(Y, psnr_colour="y-full")
    # The weights of the two standards agree to four digits.
    assert psnr(*pair, Y) - psnr(*pair, full) == pytest.approx(20 * math.log10(255 / 219), abs=1e-3)


@pytest.mark.parametrize("name", ["psnr", "psnry", "ssim", "ssimc"])
def test_the_default_protocol_gives_pyiqas_values(pair, name):
    import pyiqa

    from defusion_cli.scoring.metrics import find_metrics

    metric = pyiqa.create_metric(name, device=torch.device("cpu"))
    expected = metric(*(torch.from_numpy(image).permute(2, 0, 1)[None] for image in pair)).item()
    (ours,) = find_metrics(name, PYIQA, reference=True)
    assert ours.function is not None
    assert ours.function(*pair, None) == pytest.approx(expected, abs=2e-5 if "psnr" in name else 2e-6)
    assert ours.function(pair[1], pair[1], None) == pytest.approx(80 if "psnr" in name else 1)


def test_full_luma_is_rounded_from_whole_numbers(pair):
    """With weights of three decimals, luma in thousandths is an integer, and half levels are exact: they go to even."""
    levels = [np.rint(image.astype(np.float64) * 255).astype(np.int64) for image in pair]
    thousandths = [level @ [299, 587, 114] for level in levels]
    a, b = ((luma + 500 - (luma % 2000 == 500)) // 1000 / 255 for luma in thousandths)
    expected = structural_similarity(a, b, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert ssim(*pair, replace(PYIQA, non_negative=False)) == pytest.approx(expected, abs=1e-12)


def test_pyiqa_rounds_half_levels_by_the_last_bit(pair):
    """Why SSIM differs from pyiqa's in the sixth decimal: its luma is in single precision."""
    from pyiqa.utils.color_util import to_y_channel

    theirs = to_y_channel(torch.from_numpy(pair[0]).permute(2, 0, 1)[None], 255)[0, 0].numpy()
    thousandths = np.rint(pair[0].astype(np.float64) * 255).astype(np.int64) @ [299, 587, 114]
    ours = (thousandths + 500 - (thousandths % 2000 == 500)) // 1000
    other = ours != theirs
    assert 0 < other.sum() < 0.002 * other.size
    assert (thousandths[other] % 1000 == 500).all()


def blocking_pair_by_pair(luma: np.ndarray) -> float:
    """Equations 4 to 9 of Yim and Bovik, one pair of neighbours after the other."""
    height, width = luma.shape
    edge = inside = 0.0
    for y in range(height):
        for x in range(width):
            for there, place in (((y, x + 1), x), ((y + 1, x), y)):
                if there[0] < height and there[1] < width:
                    step = (luma[y, x] - luma[there]) ** 2
                    edge, inside = (edge + step, inside) if place % 8 == 7 else (edge, inside + step)
    edges = height * (width / 8 - 1) + width * (height / 8 - 1)
    pairs = height * (width - 1) + width * (height - 1)
    excess = edge / edges - inside / (pairs - edges)
    return max(0, excess) * 3 / math.log2(min(height, width))


@pytest.mark.parametrize("size", [(96, 96), (90, 101)])
def test_psnr_b_adds_the_blocking_of_luma(photo, size):
    clean = (photo[: size[0], : size[1]] * 255).round().astype(np.uint8)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", clean, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], cv2.IMREAD_COLOR)
    a, b = (image.astype(np.float32) / 255 for image in (jpeg, clean))
    luma = np.rint(16 + jpeg.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255) / 255
    factor = blocking_pair_by_pair(luma)
    assert factor > 1e-5
    error = np.mean((a.astype(np.float64) - b) ** 2)
    assert psnr_b(a, b, RGB) == pytest.approx(-10 * math.log10(error + factor), abs=1e-9)
    assert psnr_b(a, b, RGB) < psnr(a, b, RGB) - 0.2


def test_psnr_b_of_a_picture_without_blocks_is_psnr(pair):
    noisy, clean = pair
    smooth = cv2.GaussianBlur(noisy, (0, 0), 3)
    ramp = np.repeat(np.linspace(0, 1, 64, dtype=np.float32)[None, :, None], 64, axis=0).repeat(3, axis=2)
    assert psnr_b(ramp, ramp * 0.9, Y) == pytest.approx(psnr(ramp, ramp * 0.9, Y), abs=0.05)
    assert psnr(smooth, clean, RGB) - psnr_b(smooth, clean, RGB) < 0.02
    with pytest.raises(DataError, match="too small for PSNR-B"):
        psnr_b(ramp[:15], ramp[:15], RGB)


def test_equal_pictures(pair):
    assert psnr(pair[0], pair[0], RGB) == math.inf
    assert ssim(pair[0], pair[0], RGB) == pytest.approx(1)
    assert mean_absolute_error(pair[0], pair[0]) == 0


@pytest.mark.parametrize("size", [(600, 500), (513, 771)])
@pytest.mark.parametrize("pooling", ["adaptive", "blocks"])
def test_ssim_of_smaller_copies(rng, size, pooling):
    a, b = (rng.random((*size, 3)).astype(np.float32) for _ in range(2))
    factor = round(min(size) / 256)
    small = []
    for image in (a, b):
        tensor = torch.from_numpy(image).double().permute(2, 0, 1)[None]
        if pooling == "adaptive":
            tensor = torch.nn.functional.adaptive_avg_pool2d(tensor, [side // factor for side in size])
        else:
            tensor = torch.nn.functional.avg_pool2d(tensor, factor)
        small.append(tensor[0].permute(1, 2, 0).numpy())
    expected = structural_similarity(
        *small, channel_axis=2, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(a, b, replace(RGB, pooling=pooling)) == pytest.approx(expected, abs=1e-6)


def test_right_and_bottom_are_cut_to_a_multiple_of_four(pair):
    a, b = (image[:46, :63] for image in pair)
    cut = psnr(a[:44, :60], b[:44, :60], Y)
    assert psnr(a, b, PAPER["raindrop"]) == pytest.approx(cut, abs=1e-9)
    assert psnr(a, b, Y) != pytest.approx(cut, abs=1e-3)


def test_too_small_for_the_window(pair):
    tiny = pair[0][:10, :40]
    with pytest.raises(DataError, match="too small"):
        ssim(tiny, tiny, RGB)


def test_definitions_tell_the_protocols_apart():
    texts = {(p.psnr_text(), p.ssim_text(), p.fid_text()) for p in (*GENERAL.values(), PAPER["raindrop-original"])}
    assert len(texts) == 4
    assert "studio" in Y.psnr_text() and "16–235" in Y.psnr_text()
    assert all(protocol.source for protocol in (*GENERAL.values(), *PAPER.values()))


@pytest.mark.parametrize(
    ("name", "data_set", "sentence"),
    [
        ("rgbb", None, "did you mean rgb?"),
        ("paper", None, "needs the data set"),
        ("paper", "dense-haze", "no published evaluation code"),
    ],
)
def test_protocols_that_do_not_exist(name, data_set, sentence):
    with pytest.raises(UsageError) as caught:
        find_protocol(name, data_set)
    assert sentence in str(caught.value)


def test_papers_go_by_data_set():
    assert find_protocol("paper", "gopro").psnr_colour == "rgb"
    assert find_protocol("paper", "snow100k-l").psnr_colour == "y-studio"
    assert find_protocol("paper", "sidd").fid_mode == "legacy_pytorch"

"""Camera shake: found where it is, not found where it is not, and undone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data

from defusion_cli.canvas import ArrayPhoto, Canvas, Pixels, quantise
from defusion_cli.diffusion import DefusionPipeline
from defusion_cli.images import to_uint8
from defusion_cli.plugins import Blur, installed_plugins
from defusion_cli.plugins.kernels import convolve, from_light, to_light
from defusion_cli.restore.deconvolution import (
    DeconvolvedPhoto,
    Inverse,
    blur_between,
    disk,
    find_inverse,
    find_psf,
    inverse,
)
from defusion_cli.restore.instruction import Instructor, Nature
from defusion_cli.restore.pixels import restore_canvas, restore_pixels
from defusion_cli.restore.scale import restore_parts
from defusion_cli.training.validation import psnr
from degradations.motion_blur import MotionBlurParams, trajectory_psf


@pytest.fixture(scope="module")
def sharp() -> Pixels:
    return (data.astronaut()[:400, :420] / np.float32(255)).astype(np.float32)


@pytest.fixture(scope="module")
def path() -> np.ndarray:
    return trajectory_psf(MotionBlurParams(length_px=13.0, angle_deg=35.0, shake=0.7), np.random.default_rng(2))


@pytest.fixture(scope="module")
def shaken(sharp: Pixels, path: np.ndarray) -> Pixels:
    return (to_uint8(convolve(sharp, path)) / np.float32(255)).astype(np.float32)


def _steadied(picture: Pixels, undone: Inverse) -> Pixels:
    return DeconvolvedPhoto(ArrayPhoto(picture), undone).pixels((slice(None), slice(None)))


def test_the_path_is_found(shaken: Pixels, path: np.ndarray) -> None:
    found = find_psf(np.ascontiguousarray(shaken.mean(axis=2)), 27)
    assert found.shape == (27, 27) and found.min() >= 0 and found.sum() == pytest.approx(1, abs=1e-5)
    side = 64
    spectra = [np.fft.rfft2(psf, (side, side)) for psf in (found, path)]
    # A path and a picture may be shifted against each other.
    match = np.fft.irfft2(spectra[0] * spectra[1].conj()).max()
    assert match > 0.8 * np.linalg.norm(found) * np.linalg.norm(path)


def test_shake_is_undone(sharp: Pixels, shaken: Pixels) -> None:
    undone = find_inverse(ArrayPhoto(shaken), Blur.PATH)
    assert undone is not None and undone.taps.sum() == pytest.approx(1, abs=1e-3) and undone.space == "srgb"
    assert psnr(_steadied(shaken, undone), sharp) > psnr(shaken, sharp) + 3


def test_light_is_what_a_camera_averages(sharp: Pixels, path: np.ndarray) -> None:
    shaken = from_light(convolve(to_light(sharp, "linear"), path), "linear")
    shaken = (to_uint8(shaken) / np.float32(255)).astype(np.float32)
    undone = find_inverse(ArrayPhoto(shaken), Blur.PATH)
    assert undone is not None and undone.space == "linear"
    assert psnr(_steadied(shaken, undone), sharp) > psnr(shaken, sharp) + 3


@pytest.mark.parametrize("shape", [(400, 420), (150, 150), (1, 1), (3, 300)])
def test_there_is_none_in_a_sharp_or_small_picture(sharp: Pixels, shape: tuple[int, int]) -> None:
    assert find_inverse(ArrayPhoto(np.ascontiguousarray(sharp[: shape[0], : shape[1]])), Blur.PATH) is None


def test_there_is_none_where_nothing_is_seen() -> None:
    noise = np.random.default_rng(0).normal(0.5, 0.05, (300, 300, 3)).clip(0, 1).astype(np.float32)
    for picture in (np.full((300, 300, 3), 0.5, np.float32), noise):
        assert find_inverse(ArrayPhoto(picture), Blur.DISK) is None


def test_a_disk_is_round_and_as_wide_as_asked() -> None:
    psf = disk(6.3)
    places = np.arange(len(psf)) - len(psf) // 2
    assert (
        psf.sum() == pytest.approx(1, abs=1e-5) and np.allclose(psf, psf[::-1]) and np.allclose(psf, psf.T, atol=1e-6)
    )
    # Each axis has a quarter of the squared radius, and of the softening its variance.
    assert psf.sum(0) @ places**2 == pytest.approx(6.3**2 / 4 + 0.25, rel=0.02)


def test_what_is_out_of_focus_is_undone(sharp: Pixels, shaken: Pixels, pipeline: DefusionPipeline) -> None:
    blurred = (to_uint8(convolve(sharp, disk(5.0))) / np.float32(255)).astype(np.float32)
    undone = find_inverse(ArrayPhoto(blurred), Blur.DISK)
    assert undone is not None
    assert psnr(_steadied(blurred, undone), sharp) > psnr(blurred, sharp) + 2
    assert find_inverse(ArrayPhoto(shaken), Blur.DISK) is None
    ((_, nature),) = Instructor(pipeline, installed_plugins()).example(blurred, sharp)
    assert nature.uniform_blur == Blur.DISK


def test_the_inverse_trusts_noise_less(path: np.ndarray) -> None:
    plain, careful = inverse(path), inverse(path, noise=0.05)
    assert plain.shape == (129, 129)
    assert np.square(careful).sum() < 0.5 * np.square(plain).sum()


@pytest.mark.parametrize("space", ["srgb", "linear"])
def test_a_part_is_what_the_whole_has_there(path: np.ndarray, space: str) -> None:
    picture = np.random.default_rng(1).random((530, 700, 3), dtype=np.float32)
    photo = DeconvolvedPhoto(ArrayPhoto(picture), Inverse(inverse(path), space))
    whole = photo.pixels((slice(None), slice(None)))
    for window in (np.s_[100:450, 400:], np.s_[:3, 20:30], np.s_[529:, 250:270]):
        np.testing.assert_allclose(photo.pixels(window), whole[window], atol=2e-3)


def test_what_was_replaced_above_is_remembered(path: np.ndarray) -> None:
    picture = np.random.default_rng(1).random((400, 90, 3), dtype=np.float32)
    source = picture.copy()
    photo = DeconvolvedPhoto(ArrayPhoto(source), Inverse(inverse(path), "linear"))
    whole = photo.pixels((slice(None), slice(None)))
    for row in (30, 100, 250):
        photo.keep_above(row)
        source[:row] = 0
        np.testing.assert_allclose(photo.pixels((slice(row, None), slice(5, 60))), whole[row:, 5:60], atol=2e-3)


@pytest.mark.parametrize("reduction", [1, 2])
def test_a_picture_is_steadied_in_place(
    pipeline: DefusionPipeline, tokens: torch.Tensor, shaken: Pixels, reduction: int
) -> None:
    large = np.repeat(np.repeat(shaken, reduction, 0), reduction, 1)
    canvas = Canvas(quantise(large, 16))
    shares: list[float] = []
    nature = Nature(uniform_blur=Blur.PATH)
    expected = restore_pixels(
        pipeline, canvas.pixels(), tokens, on_progress=shares.append, reduction=reduction, nature=nature
    )
    restore_canvas(pipeline, canvas, tokens, reduction=reduction, nature=nature)
    np.testing.assert_array_equal(canvas.samples, quantise(expected, 16))
    assert shares == sorted(shares) and shares[-1] == 1
    assert np.abs(expected - large).max() > 0.1


def test_a_named_and_a_shown_blur_are_looked_for(pipeline: DefusionPipeline, sharp: Pixels, shaken: Pixels) -> None:
    instructor = Instructor(pipeline, installed_plugins())
    before = psnr(shaken, sharp)
    for instruction in (instructor.by_parts(["motion-blur"]), instructor.example(shaken, sharp)):
        assert psnr(restore_parts(pipeline, shaken, instruction), sharp) > before + 2


def test_nobody_is_asked_about_blur_where_none_is_named(
    pipeline: DefusionPipeline, sharp: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "find_recogniser", lambda: pytest.fail("the recogniser was asked"))
    instructor = Instructor(pipeline, installed_plugins())
    restore_parts(pipeline, sharp[:64, :64], instructor.by_parts(["noise", "rain"]))
    with pytest.raises(pytest.fail.Exception):
        restore_parts(pipeline, sharp[:64, :64], instructor.by_parts(["defocus-blur"]))


def test_what_no_convolution_explains_is_no_blur(sharp: Pixels, shaken: Pixels) -> None:
    rng = np.random.default_rng(0)
    assert blur_between(shaken, sharp) == Blur.PATH
    noisy = np.clip(sharp + rng.normal(0, 0.1, sharp.shape), 0, 1).astype(np.float32)
    plugins = installed_plugins()
    hazy, snowy = (plugins[name].apply(sharp, plugins[name].sample(rng, 0.5), rng) for name in ("haze", "snow"))
    for picture in (noisy, hazy, snowy, 0.6 * sharp + np.float32(0.3)):
        assert blur_between(picture, sharp) is None

"""Camera shake: found where it is, not found where it is not, and undone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from torch._subclasses.fake_tensor import FakeTensorMode
from typer.testing import CliRunner

from defusion_cli.app import app
from defusion_cli.canvas import ArrayPhoto, Canvas, Pixels, quantise
from defusion_cli.diffusion import DefusionPipeline
from defusion_cli.images import to_uint8, write_image
from defusion_cli.plugins import Blur, installed_plugins
from defusion_cli.plugins.kernels import convolve, from_light, to_light
from defusion_cli.restore import deconvolution
from defusion_cli.restore.deconvolution import DeconvolvedPhoto, Inversion, UniformBlur, deconvolve, find_blur
from defusion_cli.restore.instruction import Instructor, Nature
from defusion_cli.restore.ledger import LEDGER_NAME
from defusion_cli.restore.pixels import restore_canvas, restore_pixels
from defusion_cli.restore.psf import (
    blur_between,
    disk,
    few_edges,
    find_psf,
    gradient_squares,
    least_squares_psf,
    periodic,
    response,
    spectrum_of,
)
from defusion_cli.restore.run import BLURS, blurs_in_words
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


def _steadied(picture: Pixels, blur: UniformBlur) -> Pixels:
    return DeconvolvedPhoto(ArrayPhoto(picture), blur).pixels((slice(None), slice(None)))


def test_the_path_is_found(shaken: Pixels, path: np.ndarray) -> None:
    found = find_psf(np.ascontiguousarray(shaken.mean(axis=2)), 27)
    assert found.shape == (27, 27) and found.min() >= 0 and found.sum() == pytest.approx(1, abs=1e-5)
    side = 64
    spectra = [np.fft.rfft2(psf, (side, side)) for psf in (found, path)]
    # A path and a picture may be shifted against each other.
    match = np.fft.irfft2(spectra[0] * spectra[1].conj()).max()
    assert match > 0.8 * np.linalg.norm(found) * np.linalg.norm(path)


def test_shake_is_undone(sharp: Pixels, shaken: Pixels) -> None:
    blur = find_blur(ArrayPhoto(shaken), Blur.PATH)
    assert blur is not None and blur.psf.sum() == pytest.approx(1, abs=1e-3) and blur.space == "srgb"
    assert psnr(_steadied(shaken, blur), sharp) > psnr(shaken, sharp) + 3


def test_light_is_what_a_camera_averages(sharp: Pixels, path: np.ndarray) -> None:
    shaken = from_light(convolve(to_light(sharp, "linear"), path), "linear")
    shaken = (to_uint8(shaken) / np.float32(255)).astype(np.float32)
    blur = find_blur(ArrayPhoto(shaken), Blur.PATH)
    assert blur is not None and blur.space == "linear"
    assert psnr(_steadied(shaken, blur), sharp) > psnr(shaken, sharp) + 3


@pytest.mark.parametrize("shape", [(400, 420), (150, 150), (1, 1), (3, 300)])
def test_there_is_none_in_a_sharp_or_small_picture(sharp: Pixels, shape: tuple[int, int]) -> None:
    assert find_blur(ArrayPhoto(np.ascontiguousarray(sharp[: shape[0], : shape[1]])), Blur.PATH) is None


def test_there_is_none_where_nothing_is_seen() -> None:
    noise = np.random.default_rng(0).normal(0.5, 0.05, (300, 300, 3)).clip(0, 1).astype(np.float32)
    for picture in (np.full((300, 300, 3), 0.5, np.float32), noise):
        assert find_blur(ArrayPhoto(picture), Blur.DISK) is None


def test_transforms_stay_on_their_device(sharp: Pixels, path: np.ndarray) -> None:
    """On a device that is only pretended, which nevertheless minds that all of a sum lies on it."""
    gpu = torch.device("cuda", 0)
    grey = np.ascontiguousarray(sharp.mean(axis=2))
    with FakeTensorMode():
        picture = periodic(grey, 27)
        shape = (picture.shape[0], picture.shape[1])
        shown, squares = spectrum_of(picture, gpu), gradient_squares(shape, gpu)
        edges = few_edges(shown, response(path, shape, gpu), squares, shape, 1e-3)
        psf = least_squares_psf(edges, shown, squares, shape, 27)
        clear = Inversion(sharp, path, gpu).planes(1000.0)
    assert psf.device == clear.device == gpu
    assert psf.shape == (27, 27) and clear.shape == (3, 400 - 192, 420 - 192)


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
    blur = find_blur(ArrayPhoto(blurred), Blur.DISK)
    assert blur is not None
    assert psnr(_steadied(blurred, blur), sharp) > psnr(blurred, sharp) + 2
    assert find_blur(ArrayPhoto(shaken), Blur.DISK) is None
    ((_, nature),) = Instructor(pipeline, installed_plugins()).example(blurred, sharp)
    assert nature.uniform_blur == Blur.DISK


def test_noise_is_followed_less(sharp: Pixels, path: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    noisy = (convolve(sharp, path) + rng.normal(0, 0.02, sharp.shape)).clip(0, 1).astype(np.float32)
    blind, told = (_steadied(noisy, UniformBlur(path, "srgb", noise)) for noise in (0.0, 0.02))
    assert psnr(told, sharp) > psnr(noisy, sharp) + 1 > psnr(blind, sharp)


def test_values_on_any_scale_are_deconvolved_alike(sharp: Pixels, path: np.ndarray) -> None:
    """The outermost pixels are left out, and a mean of its own does not matter."""
    picture = np.ascontiguousarray(convolve(sharp, path))
    clear = deconvolve(picture, path)
    assert clear.shape == (400 - 192, 420 - 192, 3)
    np.testing.assert_allclose(deconvolve(picture + np.float32(3), path), clear + 3, atol=1e-3)


@pytest.fixture(scope="module")
def large(path: np.ndarray) -> Pixels:
    """Of four blocks, shaken."""
    picture = np.concatenate([data.astronaut(), data.astronaut()[::-1]], axis=1)[:, :900]
    picture = np.concatenate([picture, picture[100:300]]) / np.float32(255)
    return np.asarray(convolve(np.ascontiguousarray(picture), path).clip(0, 1), np.float32)


@pytest.mark.parametrize("space", ["srgb", "linear"])
def test_a_part_is_what_the_whole_has_there(large: Pixels, path: np.ndarray, space: str) -> None:
    blur = UniformBlur(path, space)
    whole = _steadied(large, blur)
    assert whole.shape == large.shape and whole.min() >= 0 and whole.max() <= 1
    for window in (np.s_[100:650, 400:], np.s_[:3, 20:30], np.s_[711:, 750:790]):
        np.testing.assert_array_equal(DeconvolvedPhoto(ArrayPhoto(large), blur).pixels(window), whole[window])


def test_blocks_do_not_show(large: Pixels, path: np.ndarray) -> None:
    """Where they meet, the picture is as the middle of a block has it."""
    clear = _steadied(large, UniformBlur(path, "srgb"))
    around = np.pad(large[300:, 400:], ((0, 96), (0, 96), (0, 0)), mode="symmetric")
    difference = np.abs(clear[396:, 496:] - np.clip(deconvolve(around, path), 0, 1))
    assert difference.mean() < 2e-3 and np.quantile(difference, 0.999) < 0.03


def test_what_was_replaced_above_is_remembered(large: Pixels, path: np.ndarray) -> None:
    source, blur = large.copy(), UniformBlur(path, "linear")
    photo = DeconvolvedPhoto(ArrayPhoto(source), blur)
    whole = _steadied(large, blur)
    for row in (30, 500, 540, 600):
        photo.keep_above(row)
        source[:row] = 0
        np.testing.assert_array_equal(photo.pixels((slice(row, None), slice(5, 60))), whole[row:, 5:60])


def test_old_blocks_are_forgotten(large: Pixels, path: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = DeconvolvedPhoto(ArrayPhoto(large), UniformBlur(path, "srgb"))
    computed: list[int] = []
    monkeypatch.setattr(deconvolution, "deconvolve", lambda *given: (computed.append(1), deconvolve(*given))[1])
    photo.pixels(np.s_[:300, :300])
    photo.pixels(np.s_[100:200, 100:200])
    assert len(computed) == 1
    photo.keep_above(600)
    photo.pixels(np.s_[600:, :300])
    photo.pixels(np.s_[600:, :300])
    assert len(computed) == 2


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


def test_the_command_says_where_no_blur_was_found(tmp_path: Path, sharp: Pixels, shaken: Pixels) -> None:
    """Else a photograph that comes back as soft as it was leaves its owner wondering."""
    (tmp_path / "in").mkdir()
    for name, picture in (("sharp", sharp), ("shaken", shaken)):
        write_image(tmp_path / "in" / f"{name}.png", picture)
    arguments = ["restore", str(tmp_path / "in"), str(tmp_path / "out"), "--degradation", "motion-blur"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert "sharp.png: no blur was found" in result.output and "shaken.png:" not in result.output
    noted = {
        one["name"]: one["blurs"] for one in map(json.loads, (tmp_path / "out" / LEDGER_NAME).read_text().splitlines())
    }
    assert noted["sharp.png"] == [0.0] and noted["shaken.png"][0] > 0.5


@pytest.mark.parametrize(
    ("believed", "said"),
    [
        *(([], ""), ([1.0], ""), ([0.9, 0.0], "")),
        *(([0.3], "uncertain: 30 %"), ([0.0, 0.0], "no blur was found")),
    ],
)
def test_what_is_said_of_blur(believed: list[float], said: str) -> None:
    words = blurs_in_words({BLURS: believed} if believed else {})
    assert said in words and bool(said) == bool(words)

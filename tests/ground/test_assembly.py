"""A ground holds one element of each category, is the same for the same seed everywhere, and is drawn fast."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from defusion_cli.errors import DataError, UsageError
from defusion_cli.ground import CATEGORIES, GROUND_KINDS, compose_ground, draw_ground, natural_pool
from defusion_cli.ground.colours import COLORCHECKER, COLOURS
from defusion_cli.ground.natural import WHEEL_PHOTOS, draw_natural
from defusion_cli.ground.regular import REGULAR
from defusion_cli.ground.stochastic import STOCHASTIC
from defusion_cli.images import Pixels, read_pixels, write_image


@pytest.mark.parametrize("size", [224, 129])
def test_four_categories_tile_the_square(size: int) -> None:
    cuts = set()
    for seed in range(12):
        _, placements = compose_ground(np.random.default_rng(seed), size)
        assert sorted(p.category for p in placements) == sorted(CATEGORIES)
        cover = np.zeros((size, size), int)
        for p in placements:
            cover[p.top : p.top + p.height, p.left : p.left + p.width] += 1
            assert min(p.height, p.width) >= 0.35 * size
        assert np.all(cover == 1)
        cuts.add((placements[0].height, placements[0].width))
    assert len(cuts) > 3  # not always the same quarters


def test_every_element_and_every_place_occurs() -> None:
    draws = [compose_ground(np.random.default_rng(seed), 48)[1] for seed in range(150)]
    seen = {p.element for placements in draws for p in placements}
    assert seen == {*REGULAR, *STOCHASTIC, *COLOURS, "photo"}
    assert {placements[0].category for placements in draws} == set(CATEGORIES)


def test_a_composed_colorchecker_keeps_its_colours() -> None:
    known = {tuple(c) for c in np.rint(255 * COLORCHECKER).astype(int).tolist()}
    for seed in range(40):
        ground, placements = compose_ground(np.random.default_rng(seed))
        for p in placements:
            if p.element == "colorchecker":
                box = ground[p.top : p.top + p.height, p.left : p.left + p.width]
                colours = np.unique(np.rint(255 * box).astype(int).reshape(-1, 3), axis=0).tolist()
                patches = {tuple(c) for c in colours} & known
                assert len(patches) in (6, 24)
                assert len(colours) == len(patches) + 1  # and the surround
                return
    pytest.fail("no colour chart in 40 grounds")


@pytest.mark.parametrize("kind", GROUND_KINDS)
def test_grounds_are_eight_bit_pictures_and_differ_by_seed(kind: str) -> None:
    ground = draw_ground(np.random.default_rng(1), kind)
    assert ground.shape == (224, 224, 3)
    assert ground.dtype == np.float32
    assert ground.min() >= 0
    assert ground.max() <= 1
    assert np.array_equal(np.rint(255 * ground).astype(np.uint8).astype(np.float32) / np.float32(255), ground)
    assert np.array_equal(ground, draw_ground(np.random.default_rng(1), kind))
    assert not np.array_equal(ground, draw_ground(np.random.default_rng(2), kind))


def test_ablations_are_simpler() -> None:
    colours = {
        kind: len(np.unique(draw_ground(np.random.default_rng(5), kind).reshape(-1, 3), axis=0))
        for kind in GROUND_KINDS
    }
    assert colours["blank"] == 1
    flat = draw_ground(np.random.default_rng(5), "simple").reshape(-1, 3)
    _, counts = np.unique(flat, axis=0, return_counts=True)
    assert np.sort(counts)[-7:].sum() > 0.9 * len(flat)  # at most six shapes on one colour, and their edges
    assert 1 < colours["simple"] < colours["visual"]


def test_another_process_draws_the_same_bytes() -> None:
    program = (
        "import hashlib, sys, numpy as np\n"
        "from defusion_cli.ground import draw_ground\n"
        "grounds = [draw_ground(np.random.default_rng([7, i])).tobytes() for i in reversed(range(8))]\n"
        "assert 'torch' not in sys.modules and 'skimage' not in sys.modules\n"
        "print(hashlib.sha256(b''.join(reversed(grounds))).hexdigest())\n"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    here = b"".join(draw_ground(np.random.default_rng([7, i])).tobytes() for i in range(8))
    assert printed.strip() == hashlib.sha256(here).hexdigest()


def test_grounds_are_drawn_fast() -> None:
    draw_ground(np.random.default_rng(0))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    rng, times = np.random.default_rng(0), []
    for _ in range(30):
        start = time.process_time()
        draw_ground(rng)
        times.append(time.process_time() - start)
    cv2.setNumThreads(threads)
    assert np.median(times) < 0.02  # 4 ms on an idle core


@pytest.mark.parametrize(("kind", "size"), [("visaul", 224), ("visual", 8), ("blank", 5000)])
def test_what_cannot_be_drawn_is_explained(kind: str, size: int) -> None:
    with pytest.raises(UsageError) as caught:
        draw_ground(np.random.default_rng(0), kind, size)
    assert caught.value.accepted is not None
    if kind == "visaul":
        assert caught.value.fix == "did you mean visual?"


def test_pool_holds_the_photographs_of_the_wheel() -> None:
    pool = natural_pool()
    assert len(pool) == len(WHEEL_PHOTOS)
    for photo in pool:
        assert photo.dtype == np.float32
        assert min(photo.shape[:2]) <= 360
        assert photo.std() > 0.03
        with pytest.raises(ValueError, match="read-only"):
            photo[0, 0, 0] = 0


def test_natural_dir_adds_photographs(tmp_path: Path, photo: Pixels) -> None:
    (tmp_path / "deep").mkdir()
    write_image(tmp_path / "deep" / "mine.png", photo)
    pool = natural_pool(tmp_path)
    assert len(pool) == len(natural_pool()) + 1
    assert np.array_equal(pool[-1], read_pixels(tmp_path / "deep" / "mine.png"))


def test_natural_element_is_a_piece_of_the_photograph(photo: Pixels) -> None:
    red = np.zeros((80, 100, 3), np.float32)
    red[::2, :, 0] = 0.8
    for seed in range(8):
        piece = draw_natural(np.random.default_rng(seed), 60, 90, [red])
        assert piece.shape == (60, 90, 3)
        assert piece[..., 0].mean() > 3 * piece[..., 1:].mean()
    assert not np.array_equal(*(draw_natural(np.random.default_rng(s), 60, 90, [photo]) for s in (0, 1)))


def test_unusable_natural_dirs_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        natural_pool(tmp_path / "absent")
    with pytest.raises(DataError, match="no picture"):
        natural_pool(tmp_path)
    (tmp_path / "tiny").mkdir()
    write_image(tmp_path / "tiny" / "dot.png", np.zeros((4, 4, 3), np.float32))
    with pytest.raises(DataError, match="too small"):
        natural_pool(tmp_path / "tiny")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"cut\.png"):
        natural_pool(tmp_path / "broken")

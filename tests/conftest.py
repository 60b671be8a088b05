"""Fixtures that every test may use, and golden images that change only when someone says so."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="overwrite the images in tests/golden with what the code gives now"
    )


class Golden:
    """Compares a picture with the one stored under its name."""

    def __init__(self, update: bool) -> None:
        self._update = update

    def check(self, name: str, image: NDArray[np.float32], *, tolerance: float = 2 / 255) -> None:
        """Fail if a value of `image` (H×W×3 in [0, 1]) is farther than `tolerance` from ``tests/golden/NAME.png``."""
        path = GOLDEN / f"{name}.png"
        eight_bit = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
        if self._update:
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), eight_bit[..., ::-1])
            return
        assert path.is_file(), f"{path} is missing: run pytest --update-golden, look at the picture, commit it"
        stored = cv2.imread(str(path))[..., ::-1]
        assert stored.shape == eight_bit.shape
        worst = np.abs(stored.astype(np.float32) / 255 - eight_bit.astype(np.float32) / 255).max()
        assert worst <= tolerance, f"{path} differs by {worst:.4f}; if that is meant: pytest --update-golden"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """The golden images."""
    return Golden(request.config.getoption("--update-golden"))


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def photo() -> NDArray[np.float32]:
    """A real photograph (NASA, public domain), 128×160×3 float32 in [0, 1]."""
    crop: NDArray[np.float32] = data.astronaut()[0:256, 100:420].astype(np.float32) / 255
    return cv2.resize(crop, (160, 128), interpolation=cv2.INTER_AREA)


@pytest.fixture
def real_data() -> Path:
    """The folder named by DEFUSION_TEST_DATA, which holds train/ and val/; skips where there is none."""
    folder = os.environ.get("DEFUSION_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("DEFUSION_TEST_DATA names no folder")
    return Path(folder)

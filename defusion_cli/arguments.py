"""What callers of the functions may say, checked at the door; on the command line, options are."""

from __future__ import annotations

from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

from defusion_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


_BEYOND = 1.0
"""How far values may leave [0, 1], as they do in what was resampled."""


def check_whole(name: str, value: object, low: int, high: int | None = None) -> None:
    """Raise `UsageError` unless `value` is a whole number from `low` to `high`, both included."""
    accepted = f"{low} … {high}" if high is not None else f"{low} or more"
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise UsageError(f"{name} is not a whole number.", found=repr(value)[:80], accepted=accepted)
    if int(value) < low or (high is not None and int(value) > high):
        raise UsageError(f"{name} is out of range.", found=str(value)[:80], accepted=accepted)


def check_severity(value: object) -> None:
    """Raise `UsageError` unless `value` is None or a number in [0, 1]."""
    if value is None:
        return
    if not isinstance(value, Real) or isinstance(value, bool):
        raise UsageError("severity is not a number.", found=repr(value)[:80], accepted="0 … 1, or None")
    if not 0 <= float(value) <= 1:
        raise UsageError("severity is out of range.", found=f"{float(value):g}", accepted="0 … 1, or None")


def to_pixels(picture: Image.Image | NDArray[np.float32] | str | Path) -> NDArray[np.float32]:
    """Any picture as float32 RGB in [0, 1].

    Raises
    ------
    UsageError
        For an array that is not floating point, H×W×3.
    DataError
        If a file cannot be read, or an array has values that are not finite or far from [0, 1].
    """
    import numpy as np
    from PIL import Image

    from defusion_cli.images import read_pixels

    if isinstance(picture, (str, Path)):
        return read_pixels(Path(picture))
    if isinstance(picture, Image.Image):
        if picture.mode.startswith("I"):  # grey of 16 bits, which Pillow would cut off at 255
            grey = np.asarray(picture, np.float32) / np.float32(65535)
            array = np.repeat(grey[..., None], 3, axis=2)
        elif picture.mode == "F":
            array = np.asarray(picture)
        else:
            array = np.asarray(picture.convert("RGB"), np.float32) / np.float32(255)
    else:
        array = np.asarray(picture)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype.kind != "f" or array.size == 0:
        raise UsageError(
            "This array is not a picture.",
            found=f"{array.dtype} {array.shape}",
            accepted="floating point, H×W×3 with one pixel or more, RGB in [0, 1]",
            fix="picture.astype('float32') / 255 for 8-bit values" if array.dtype.kind == "u" else None,
        )
    unknown = np.count_nonzero(~np.isfinite(array))
    if unknown:
        found = f"{unknown} of {array.size} values not finite"
        raise DataError("This array is not a picture.", found=found, accepted="finite values, RGB in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if low < -_BEYOND or high > 1 + _BEYOND:
        raise DataError(
            "This array is not a picture.",
            found=f"values from {low:g} to {high:g}",
            accepted="RGB in [0, 1]",
            fix="picture / 255 for 8-bit values",
        )
    return array.astype(np.float32, copy=False)

"""Fréchet inception distance of two sets of pictures: pyiqa's network and pictures, our statistics and our arithmetic.

References
----------
.. [1] M. Heusel, H. Ramsauer, T. Unterthiner, B. Nessler, S. Hochreiter, "GANs trained by a two time-scale update rule
   converge to a local Nash equilibrium", NeurIPS 2017, equation 6.
.. [2] G. Parmar, R. Zhang, J.-Y. Zhu, "On aliased resizing and surprising subtleties in GAN evaluation", CVPR 2022:
   the modes.
.. [3] M. J. Chong, D. Forsyth, "Effectively unbiased FID and Inception Score and where to find them", CVPR 2020: the
   bias at finite N.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from defusion_cli.errors import DataError
from defusion_cli.files import write_atomically
from defusion_cli.images import read_pixels, to_uint8
from defusion_cli.scoring import engine
from defusion_cli.scoring.alignment import centre
from defusion_cli.scoring.protocols import FidMode

ENOUGH = 2048
"""Fewer pictures than features: the covariance is singular, and the bias of the estimate large."""

_BATCH = 8
_SIDE_PX = 299
_CACHE_VERSION = 2


@dataclass(frozen=True)
class Statistics:
    """Mean (D) and covariance (D×D) of the features of `count` pictures, in double precision."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    count: int


class Inception:
    """The network of FID, and statistics of folders under it.

    Parameters
    ----------
    mode
        How pictures are resized to 299×299.
    device
        Of torch.

    Raises
    ------
    DefusionError
        If the weights are neither in pyiqa's cache nor to be downloaded.
    """

    def __init__(self, mode: FidMode, device: str) -> None:
        self.mode, self._device = mode, device
        self._network = engine.make_metric("fid", device).net.model
        self._weights = _digest_of_weights(self._network)

    def statistics(
        self,
        files: Sequence[str | Path],
        cached: bool,
        watch: Callable[[], None],
        cut_to: Mapping[str, str] | None = None,
    ) -> Statistics:
        """Statistics of `files`, in one pass and with memory for eight pictures and the sums.

        Parameters
        ----------
        files
            At least two pictures.
        cached
            Whether to look into the cache, and to leave the result there. The key is made of the contents of the files,
            the network and the mode: the cache is never stale, wherever the files lie.
        watch
            Called after each file.
        cut_to
            By file, a picture to whose size it is cut about its centre; these statistics are never cached.

        Raises
        ------
        DataError
            If there are fewer than two, or one cannot be read.
        """
        if len(files) < 2:
            raise DataError("FID needs at least two pictures.", found=f"{len(files)}")
        place = _cache_folder() / f"{self._key(files)}.npz" if cached and not cut_to else None
        stored = _read_cache(place) if place else None
        if stored is not None:
            for _ in files:
                watch()
            return stored
        found = self._measure(files, watch, cut_to or {})
        if place:
            _write_cache(place, found)
        return found

    def _measure(self, files: Sequence[str | Path], watch: Callable[[], None], cut_to: Mapping[str, str]) -> Statistics:
        total: Any = 0.0
        squares: Any = 0.0
        shift = None
        for start in range(0, len(files), _BATCH):
            chunk = files[start : start + _BATCH]
            features = self._features([_pixels(file, cut_to.get(str(file))) for file in chunk])
            # Second moments about the first features instead of zero: no digits are lost in the subtraction below.
            shift = features[0] if shift is None else shift
            centred = features - shift
            total, squares = total + centred.sum(axis=0), squares + centred.T @ centred
            for _ in chunk:
                watch()
        count = len(files)
        covariance = (squares - np.outer(total, total) / count) / (count - 1)
        return Statistics(shift + total / count, covariance, count)

    def _features(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        import torch

        batch = torch.stack([_resized(picture, self.mode) for picture in pictures])  # N×3×299×299, 0…255
        legacy = self.mode == "legacy_pytorch"
        batch = batch / 255 if legacy else (batch - 128) / 128
        with torch.inference_mode():
            features = self._network(batch.to(self._device), False, legacy)[0]
        wide: NDArray[np.float64] = features.reshape(len(pictures), -1).cpu().numpy().astype(np.float64)
        return wide

    def _key(self, files: Sequence[str | Path]) -> str:
        contents = sorted(hashlib.sha256(Path(file).read_bytes()).digest() for file in files)
        key = hashlib.sha256("\n".join([str(_CACHE_VERSION), self.mode, self._weights]).encode())
        for content in contents:
            key.update(b"\n" + content.hex().encode())
        return key.hexdigest()


def _pixels(file: str | Path, cut_to: str | None) -> NDArray[np.uint8]:
    """Upright H×W×3 in 8 bits, read as for every other metric: Pillow's own conversion turns 16-bit grey white."""
    pixels = read_pixels(Path(file))
    return to_uint8(pixels if cut_to is None else centre(pixels, read_pixels(Path(cut_to))))


def _resized(picture: NDArray[np.uint8], mode: FidMode) -> Any:
    """3×299×299, 0…255, as the tool of this mode resizes."""
    import torch

    if mode == "clean":  # each channel in floating point, unrounded
        planes = [PilImage.fromarray(picture[..., channel].astype(np.float32)) for channel in range(3)]
        small = [plane.resize((_SIDE_PX, _SIDE_PX), PilImage.Resampling.BICUBIC) for plane in planes]
        return torch.from_numpy(np.stack([np.asarray(plane) for plane in small])).clamp(0, 255)
    whole = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    if mode == "legacy_pytorch":
        return torch.nn.functional.interpolate(whole, (_SIDE_PX, _SIDE_PX), mode="bilinear", align_corners=False)[0]
    from pyiqa.archs.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    return interpolate_bilinear_2d_like_tensorflow1x(whole, size=(_SIDE_PX, _SIDE_PX), align_corners=False)[0]


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Fréchet distance of two normal distributions: equation 6 of [1]_.

    The trace of the root of the product of both covariances is taken from the eigenvalues of a symmetric matrix, which
    are real and not negative. The general matrix root that FID tools use loses digits when a covariance is singular,
    as it is for fewer than 2,049 pictures; and the argument with which they call SciPy's is gone from version 1.18 on.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = vectors * np.sqrt(np.clip(values, 0, None))  # root @ root.T is the covariance
    spectrum = np.linalg.eigvalsh(root.T @ b.covariance @ root)
    trace = float(np.sqrt(np.clip(spectrum, 0, None)).sum())
    offset = a.mean - b.mean
    return float(offset @ offset + np.trace(a.covariance) + np.trace(b.covariance) - 2 * trace)


def small_sample_warning(count: int) -> str | None:
    """What to say beside an FID of `count` pictures; None if there are enough."""
    if count >= ENOUGH:
        return None
    return (
        f"FID over N = {count:,} pictures is biased upwards: a covariance of 2,048 features estimated from fewer than "
        f"{ENOUGH:,} pictures is singular. Compare it only with FIDs over the same number."
    )


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "defusion" / "fid"


def _digest_of_weights(network: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
    return digest.hexdigest()


def _read_cache(path: Path) -> Statistics | None:
    """What is stored there; None for nothing, and for a file that cannot be read, which is then written anew."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Statistics(stored["mean"], stored["covariance"], int(stored["count"]))
    except (OSError, ValueError, KeyError, EOFError):
        return None


def _write_cache(path: Path, statistics: Statistics) -> None:
    data = io.BytesIO()
    np.savez(data, mean=statistics.mean, covariance=statistics.covariance, count=statistics.count)
    write_atomically(path, data.getvalue())

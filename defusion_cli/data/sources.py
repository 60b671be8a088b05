"""Where training pictures come from: folders of clean photographs, and folders of real pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from defusion_cli.errors import DataError, UsageError
from defusion_cli.images import list_images

_DAMAGED, _CLEAN = ("degraded", "input", "lq"), ("clean", "target", "gt", "hq")


@dataclass(frozen=True)
class Photo:
    """A clean photograph, and its damaged twin if the damage is real.

    Attributes
    ----------
    clean, damaged
        Files; `damaged` is None where the damage is to be synthesised.
    degradation
        Id of the degradation that a pair shows.
    """

    clean: Path
    damaged: Path | None = None
    degradation: str = ""


@dataclass(frozen=True)
class PhotoSource:
    """Photographs that are drawn from together, with a relative weight."""

    photos: tuple[Photo, ...]
    weight: float = 1.0


def parse_source(text: str) -> PhotoSource:
    """The photographs named by ``[ID=]FOLDER[:WEIGHT]``.

    ``photos/`` is a folder of clean photographs, damaged on the fly, and weighs 1. ``rain=pairs/:2`` is a folder
    with ``degraded/`` and ``clean/`` inside, paired by file name without suffix; its pictures show rain, and it is
    drawn from twice as often.

    Raises
    ------
    UsageError
        If the text is malformed.
    DataError
        If the folder is missing, empty, or does not pair up.
    """
    degradation, separator, rest = text.partition("=")
    if not separator or "/" in degradation:
        degradation, rest = "", text
    path, colon, number = rest.rpartition(":")
    if not colon or not _is_number(number):
        path, number = rest, "1"
    weight = float(number)
    if not 0 < weight < 1e6:
        raise UsageError(f"The weight of {path} cannot be used.", found=number, accepted="a number above zero")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DataError(f"The training folder {folder} does not exist.", fix="--data FOLDER, a folder of photographs")
    photos = _pairs(folder, degradation) if degradation else tuple(Photo(folder / p) for p in list_images(folder))
    if not photos:
        raise DataError(f"There are no pictures in {folder}.", accepted="PNG, JPEG, TIFF, WebP or BMP files")
    return PhotoSource(photos, weight)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _pairs(folder: Path, degradation: str) -> tuple[Photo, ...]:
    damaged, clean = _subfolder(folder, _DAMAGED), _subfolder(folder, _CLEAN)
    by_stem = {path.with_suffix(""): clean / path for path in list_images(clean)}
    pairs, orphans = [], []
    for path in list_images(damaged):
        twin = by_stem.get(path.with_suffix(""))
        if twin is None:
            orphans.append(str(path))
        else:
            pairs.append(Photo(twin, damaged / path, degradation))
    if orphans:
        raise DataError(
            f"{len(orphans)} pictures in {damaged} have no clean twin in {clean}.",
            found=", ".join(orphans[:5]),
            accepted="the same file name on both sides, whatever the suffix",
        )
    return tuple(pairs)


def _subfolder(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    raise DataError(
        f"{folder} is not a folder of pairs.",
        found=", ".join(sorted(p.name for p in folder.iterdir() if p.is_dir())[:8]) or "no subfolders",
        accepted=f"one of {', '.join(_DAMAGED)} beside one of {', '.join(_CLEAN)}",
    )


def draw_photo(sources: Sequence[PhotoSource], rng: np.random.Generator) -> Photo:
    """A photo of a source drawn by weight."""
    weights = np.array([source.weight for source in sources])
    source = sources[int(rng.choice(len(sources), p=weights / weights.sum()))]
    return source.photos[int(rng.integers(len(source.photos)))]

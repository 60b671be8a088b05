"""Where training pictures come from: folders of clean photographs, and folders of real pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from defusion_cli.console import note
from defusion_cli.data.adapters import Selection, load, parse_selection
from defusion_cli.errors import DataError, UsageError
from defusion_cli.images import READABLE, list_images

_DAMAGED, _CLEAN = ("degraded", "input", "lq"), ("clean", "target", "gt", "hq")


@dataclass(frozen=True)
class Photo:
    """A clean photograph, and its damaged twin if the damage is real.

    Attributes
    ----------
    clean, damaged
        Files; `damaged` is None where the damage is to be synthesised.
    degradation
        Id of the degradation that a pair shows, or several joined by ``+``. For a clean photograph: what it is to
        be damaged with; empty means anything.
    centre_crop
        The clean picture is larger than the damaged one, which shows its centre.
    """

    clean: Path
    damaged: Path | None = None
    degradation: str = ""
    centre_crop: bool = False

    @property
    def ids(self) -> tuple[str, ...]:
        """The degradations one by one."""
        return tuple(filter(None, self.degradation.split("+")))


@dataclass(frozen=True)
class PhotoSource:
    """Photographs that are drawn from together, with a relative weight."""

    photos: tuple[Photo, ...]
    weight: float = 1.0


def describe_photographs(sources: Sequence[PhotoSource]) -> str:
    """How many photographs there are, and a digest of their names and weights, wherever the folders may lie."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(f"{source.weight}\n".encode())
        for photo in source.photos:
            digest.update(f"{photo.clean.name}\n".encode(errors="surrogateescape"))
    return f"{sum(len(source.photos) for source in sources)} files, {digest.hexdigest()[:8]}"


def parse_source(text: str) -> PhotoSource:
    """The photographs named by ``[NAME=]FOLDER[:WEIGHT]``.

    ``photos/`` is a folder of clean photographs, damaged on the fly, and weighs 1. ``gopro=GOPRO_Large/`` is the
    training part of a data set that `defusion_cli.data.adapters` knows; ``rainds-real.rainstreak@seed90=RainDS/``
    names its subset and split. ``rain=pairs/:2`` is a folder with ``degraded/`` and ``clean/`` inside, paired by file
    name without suffix; its pictures show rain, and it is drawn from twice as often. ``rain+noise=wet/,dry/`` names
    the two folders and two kinds of damage. ``pairs=folder/`` does not say what the pairs show: they teach to
    restore without an instruction.

    Raises
    ------
    UsageError
        If the text is malformed.
    DataError
        If the folder is missing, empty, or does not pair up.
    """
    name, separator, rest = text.partition("=")
    if not separator or "/" in name.partition("@")[0]:
        name, rest = "", text
    path, colon, number = rest.rpartition(":")
    if not colon or not _is_number(number):
        path, number = rest, "1"
    weight = float(number)
    if not 0 < weight < 1e6:
        raise UsageError(f"The weight of {path} cannot be used.", found=number, accepted="a number above zero")
    folder = Path(path).expanduser()
    selection = parse_selection(name)
    if selection is None or _is_plain(selection, folder, path):
        generic = selection is not None and selection.spec.id == "pairs"
        photos = folder_photos(path, "" if generic else name, paired=bool(name))
    else:
        photos = set_photos(selection, folder, degradation=None if selection.spec.paired else "")
    return PhotoSource(photos, weight)


def _is_plain(selection: Selection, folder: Path, path: str) -> bool:
    """True where a name of a set is also that of a degradation (``raindrop``), and the folder is one of plain pairs."""
    spec = selection.spec
    if spec.id == "pairs":
        return True
    plain = "," in path or any((folder / name).is_dir() for name in _DAMAGED)
    return spec.id in spec.degradations and plain


def set_photos(
    selection: Selection,
    folder: Path,
    *,
    part: str = "train",
    exclude: Path | None = None,
    degradation: str | None = None,
) -> tuple[Photo, ...]:
    """The pictures of one part of a known data set.

    Parameters
    ----------
    part, exclude
        As for `defusion_cli.data.adapters.load`.
    degradation
        In place of what the set is known to show.

    Raises
    ------
    UsageError, DataError
        As for `defusion_cli.data.adapters.load`.
    """
    found, pairs = load(selection, folder, part, exclude)
    spec = found.spec
    if found.lonely_damaged:
        note(f"{spec.title} in {folder}: {len(found.lonely_damaged)} pictures without a twin are left out")

    def ids(subset: str) -> str:
        return "+".join(spec.degradations_of(subset)) if degradation is None else degradation

    return tuple(Photo(pair.clean, pair.damaged, ids(pair.subset), spec.centre_crop) for pair in pairs)


def folder_photos(path: str, degradation: str = "", *, paired: bool | None = None) -> tuple[Photo, ...]:
    """Pictures of no known set: clean ones, or pairs where a degradation is named (or `paired` says so).

    Parameters
    ----------
    path
        A folder; for pairs also two, as in ``wet/,dry/``.
    """
    paired = bool(degradation) if paired is None else paired
    folder = Path(path).expanduser()
    two = path.split(",") if paired and not folder.is_dir() else []
    for each in [Path(side).expanduser() for side in two] if len(two) == 2 else [folder]:
        if not each.is_dir():
            raise DataError(f"The training folder {each} does not exist.", fix="--data FOLDER, a folder of photographs")
    if len(two) == 2:
        photos = _pairs(Path(two[0]).expanduser(), Path(two[1]).expanduser(), degradation)
    elif paired:
        photos = _pairs(_subfolder(folder, _DAMAGED), _subfolder(folder, _CLEAN), degradation)
    else:
        photos = tuple(Photo(folder / p, degradation=degradation) for p in list_images(folder))
    if not photos:
        raise DataError(f"There are no pictures in {folder}.", accepted=f"{READABLE} files")
    return photos


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _pairs(damaged: Path, clean: Path, degradation: str) -> tuple[Photo, ...]:
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

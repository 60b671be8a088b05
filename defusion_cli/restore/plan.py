"""Which file becomes which: sources, targets, and nothing overwritten that was not meant; and at what scale."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from defusion_cli.errors import DataError, UsageError
from defusion_cli.files import list_names
from defusion_cli.images import FORMATS, list_images

MOST_REDUCED = 32
"""A photograph may be reduced by this number at most."""

_UNREADABLE = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2", ".gif", ".jp2", ".jxl", ".psd", ".exr")

_INEXACT = 0.05
"""How far a scale may be from 1 over a whole number, as a part of it: 0.33 stands for a third."""


@dataclass(frozen=True)
class Job:
    """One photograph to restore: its name within the folder, and where it is read from and written to."""

    name: str
    source: Path
    target: Path


def plan_jobs(source: Path, out: Path, overwrite: bool = False) -> list[Job]:
    """The files to restore, in the order of their names; the structure of the folder is kept.

    A single picture goes to `out` itself if that has the suffix of a picture and is no folder, else into the folder
    `out`. Pictures below `out` are never sources, so that `out` may lie inside `source`.

    Raises
    ------
    DataError
        If `source` is missing or holds no picture.
    UsageError
        If `out` cannot be what it would have to be, or a source would be replaced without `overwrite`.
    """
    if source.is_dir():
        if out.exists() and not out.is_dir():
            raise UsageError(f"{out} is not a folder.", accepted="a folder, because IN is one")
        if not out.exists() and out.suffix.lower() in FORMATS:
            what = f"{out} is called like a picture, but {source} is a folder."
            raise UsageError(what, accepted="a folder", fix=str(out.with_suffix("")))
        jobs = _folder_jobs(source, out)
    elif source.exists():
        jobs = [_file_job(source, out)]
    else:
        raise DataError(f"{source} does not exist.", accepted="a picture or a folder of pictures")
    folders: dict[Path, Path] = {}
    sources = {_resolved(job.source, folders) for job in jobs}
    clash = next((job for job in jobs if _resolved(job.target, folders) in sources), None)
    if clash and not overwrite:
        raise UsageError(
            f"{clash.target} would replace an original.",
            fix="name another output, or add --overwrite if the originals may go",
        )
    return jobs


def kinds_left_out(source: Path) -> dict[str, int]:
    """How many pictures of which suffix there are in a folder that cannot be read: raw files of cameras and others."""
    names = list_names(source, _UNREADABLE) if source.is_dir() else []
    return dict(sorted(Counter(Path(name).suffix.lower() for name in names).items()))


def _resolved(path: Path, folders: dict[Path, Path]) -> Path:
    """`path.resolve()`, but each folder once: of a million files that is three minutes."""
    folder = folders.get(path.parent)
    if folder is None:
        folder = folders[path.parent] = path.parent.resolve()
    full = folder / path.name
    return Path(os.path.realpath(full)) if full.is_symlink() else full  # resolve() raises where links go in a circle


def _folder_jobs(source: Path, out: Path) -> list[Job]:
    inner, outer = out.resolve(), source.resolve()
    within = inner.relative_to(outer) if inner != outer and inner.is_relative_to(outer) else None
    names = [name for name in list_images(source) if within is None or not name.is_relative_to(within)]
    if not names:
        raise DataError(f"There is no picture in {source}.", accepted=", ".join(FORMATS))
    return [Job(name.as_posix(), source / name, out / name) for name in names]


def _file_job(source: Path, out: Path) -> Job:
    if out.is_dir() or not out.suffix:
        if source.suffix.lower() not in FORMATS:
            raise UsageError(
                f"No picture can be written as {source.name}.",
                accepted=", ".join(FORMATS),
                fix=f"name the output file: {out / source.stem}.png",
            )
        return Job(source.name, source, out / source.name)
    if out.suffix.lower() not in FORMATS:
        raise UsageError(
            f"No picture can be written as {out.name}.", accepted=", ".join(FORMATS) + ", or a folder that exists"
        )
    return Job(source.name, source, out)


def parse_scale(text: str) -> int | None:
    """The whole number by which a photograph is reduced, from what stands after ``--scale``; None for ``auto``.

    Raises
    ------
    UsageError
        If it is neither ``auto`` nor about 1 over a whole number.
    """
    if text == "auto":
        return None
    try:
        value = float(text)
        factor = round(1 / value)
        if 1 <= factor <= MOST_REDUCED and abs(value * factor - 1) < _INEXACT:
            return factor
    except (ValueError, ZeroDivisionError, OverflowError):
        pass
    accepted = f"auto, or 1 over a whole number: 1, 0.5, 0.33, 0.25, … {1 / MOST_REDUCED:.2f}"
    raise UsageError("This is no scale to work at.", found=text, accepted=accepted, fix="--scale 0.25")

"""The manifest of a folder of damaged pictures: enough to make every file again, bit for bit.

``defusion-manifest.jsonl`` holds a header and one line a picture::

    {"kind": "defusion-manifest", "version": 1}
    {"source": "a/b.jpg", "source_sha256": "…", "output": "a/b.png", "output_sha256": "…",
     "recipe": {"stages": […], "depth_seed": …}, "versions": {"defusion": "…", "numpy": "…", …}}

Names are relative, with forward slashes. While a run lasts, lines are appended to a hidden journal, which the
manifest takes in at the end; after a crash the next run reads the journal, too.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from io import FileIO
from pathlib import Path, PurePosixPath, PureWindowsPath

import cv2
import numpy as np
import PIL

from defusion_cli import __version__
from defusion_cli.errors import DataError
from defusion_cli.files import staged

MANIFEST_NAME = "defusion-manifest.jsonl"
_JOURNAL_NAME = ".defusion-journal.jsonl"
_HEADER = {"kind": "defusion-manifest", "version": 1}


@dataclass(frozen=True)
class Entry:
    """One picture of a manifest, as read: names are checked, the recipe is not."""

    source: str
    source_sha256: str
    output: str
    output_sha256: str
    recipe: Mapping[str, object]
    versions: Mapping[str, str]


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of everything that has a hand in the bytes of a file."""
    return {
        "defusion": __version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "machine": platform.machine(),
    }


def read_manifest(path: Path) -> Iterator[tuple[int, Entry]]:
    """The entries of a manifest that may come from a stranger, each with the place of its line in the file, in bytes.

    Raises
    ------
    DataError
        If it cannot be read, is no manifest, has unknown keys, or names files outside its folder.
    """
    try:
        with open(path, "rb") as file:
            first = file.readline()
            header = _parse(f"Line 1 of {path}", first) if first else None
            if header != _HEADER:
                raise DataError(
                    f"{path} is not a manifest that this version reads.",
                    found=str(header)[:80],
                    accepted=f"a first line {json.dumps(_HEADER)}",
                )
            place = len(first)
            for at, line in enumerate(file, 2):
                yield place, _entry(f"Line {at} of {path}", line)
                place += len(line)
    except OSError as error:
        raise DataError(f"The manifest {path} cannot be read: {error.strerror}.", fix=f"ls -l {path}") from None


def entry_at(path: Path, place: int) -> Entry:
    """The entry whose line begins at a place that `read_manifest` told."""
    with open(path, "rb") as file:
        file.seek(place)
        return _entry(f"A line of {path}", file.readline())


def _parse(where: str, line: bytes) -> object:
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON.", found=str(error)[:120]) from None


def _entry(where: str, line: bytes) -> Entry:
    value = _parse(where, line)
    names = [field.name for field in fields(Entry)]
    if not isinstance(value, dict) or sorted(value) != sorted(names):
        found = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise DataError(f"{where} is not an entry.", found=found[:200], accepted=", ".join(names))
    for key in names:
        if not isinstance(value[key], dict if key in ("recipe", "versions") else str):
            raise DataError(f"{where}: {key} has a wrong type.", found=str(value[key])[:80])
    for key in ("source", "output"):
        if not _stays_inside(value[key]):
            raise DataError(
                f"{where} names a file outside of the folder.",
                found=repr(value[key])[:120],
                accepted="a relative path without '..'",
            )
    return Entry(**value)


def _stays_inside(name: str) -> bool:
    """True for a relative path that is one on every operating system, and that does not climb."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # JSON can hold half a letter, a file name cannot
        return False
    windows = PureWindowsPath(name)
    plain = bool(name) and "\\" not in name and "\0" not in name and not windows.drive and not windows.root
    return plain and ".." not in PurePosixPath(name).parts and PurePosixPath(name).name != ""


def resolve_inside(root: Path, name: str) -> Path:
    """``root / name``, provided that no link on the way leads out of `root`.

    Raises
    ------
    DataError
        If one does, or if links run in a circle.
    """
    path = root / name
    try:
        inside = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        inside = False
    if not inside:
        raise DataError(f"{path} is a link that leaves {root}.", accepted="files inside the folder")
    return path


class Ledger:
    """What is known of the pictures in one output folder, kept safe while a run adds to it.

    Only names and places of lines are in memory, 200 bytes a picture: the lines are ten times as long.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._manifest = folder, folder / MANIFEST_NAME
        listed = read_manifest(self._manifest) if self._manifest.exists() else ()
        self._listed = {entry.output: place for place, entry in listed}
        self._noted: dict[str, int] = {}
        self._journal: FileIO | None = None
        if (folder / _JOURNAL_NAME).exists():
            self._read_journal(self._open_journal())

    def _open_journal(self) -> FileIO:
        if self._journal is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._journal = FileIO(self._folder / _JOURNAL_NAME, "a+")
        return self._journal

    def _read_journal(self, journal: FileIO) -> None:
        place = journal.seek(0)
        with open(journal.fileno(), "rb", closefd=False) as file:
            for line in file:
                with contextlib.suppress(DataError):  # cut short by a crash; its picture is simply made again
                    self._noted[_entry(_JOURNAL_NAME, line).output] = place
                place += len(line)

    def get(self, output: str) -> Entry | None:
        """What is known of the picture with this name."""
        if output in self._noted:
            journal = self._open_journal()
            journal.seek(self._noted[output])
            with open(journal.fileno(), "rb", closefd=False) as file:
                return _entry(f"A line of {_JOURNAL_NAME}", file.readline())
        return entry_at(self._manifest, self._listed[output]) if output in self._listed else None

    def add(self, entries: Iterable[Entry]) -> None:
        """Note finished pictures, at once on disk."""
        for entry in entries:
            if self.get(entry.output) != entry:
                # The line break comes first, so that a line cut short by a crash does not spoil the next.
                line, journal = _line(asdict(entry)), self._open_journal()
                if journal.write(b"\n" + line) <= len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), journal.name)
                self._noted[entry.output] = journal.tell() - len(line)

    def close(self) -> Path | None:
        """Write the manifest of all pictures that still exist; the same pictures give the same bytes."""
        kept = sorted(name for name in self._listed.keys() | self._noted.keys() if (self._folder / name).exists())
        if kept and not self._is_written(kept):
            with staged(self._manifest) as file:
                file.writelines(self._lines(kept))
        if self._journal is not None:
            self._journal.close()
        if (self._folder / _JOURNAL_NAME).exists():  # a folder that became read-only has none, and refuses unlink
            (self._folder / _JOURNAL_NAME).unlink()
        return self._manifest if kept else None

    def _is_written(self, names: Sequence[str]) -> bool:
        if not self._manifest.exists():
            return False
        with open(self._manifest, "rb") as file:
            return all(old == new for old, new in itertools.zip_longest(file, self._lines(names)))

    def _lines(self, names: Sequence[str]) -> Iterator[bytes]:
        yield _line(_HEADER)
        for name in names:
            if entry := self.get(name):
                yield _line(asdict(entry))


def _line(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(", ", ": ")).encode() + b"\n"

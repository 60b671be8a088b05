"""The manifest of a folder of damaged pictures: enough to make every file again, bit for bit.

``defusion-manifest.jsonl`` holds a header and one line a picture::

    {"kind": "defusion-manifest", "version": 1}
    {"source": "a/b.jpg", "source_sha256": "…", "output": "a/b.png", "output_sha256": "…",
     "recipe": {"stages": […], "depth_seed": …}, "versions": {"defusion": "…", "numpy": "…", …}}

Names are relative, with forward slashes. While a run lasts, lines are appended to a hidden journal, which the
manifest takes in at the end; after a crash the next run reads the journal, too.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

import cv2
import numpy as np
import PIL

from defusion_cli import __version__
from defusion_cli.errors import DataError
from defusion_cli.files import write_atomically

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


def read_manifest(path: Path) -> list[Entry]:
    """The entries of a manifest that may come from a stranger.

    Raises
    ------
    DataError
        If it cannot be read, is no manifest, has unknown keys, or names files outside its folder.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"The manifest {path} cannot be read: {error.strerror}.", fix=f"ls -l {path}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a manifest.", found="bytes that are not UTF-8") from None
    header = _parse(path, 1, lines[0]) if lines else None
    if header != _HEADER:
        accepted = f"a first line {json.dumps(_HEADER)}"
        raise DataError(f"{path} is not a manifest that this version reads.", found=str(header)[:80], accepted=accepted)
    return [_entry(path, at, _parse(path, at, line)) for at, line in enumerate(lines[1:], 2)]


def _parse(path: Path, at: int, line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"Line {at} of {path} is not JSON.", found=str(error)[:120]) from None


def _entry(path: Path, at: int, value: object) -> Entry:
    names = [field.name for field in fields(Entry)]
    if not isinstance(value, dict) or sorted(value) != sorted(names):
        found = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise DataError(f"Line {at} of {path} is not an entry.", found=found[:200], accepted=", ".join(names))
    for key in names:
        if not isinstance(value[key], dict if key in ("recipe", "versions") else str):
            raise DataError(f"Line {at} of {path}: {key} has a wrong type.", found=str(value[key])[:80])
    for key in ("source", "output"):
        if not _stays_inside(value[key]):
            raise DataError(
                f"Line {at} of {path} names a file outside of the folder.",
                found=repr(value[key])[:120],
                accepted="a relative path without '..'",
            )
    return Entry(**value)


def _stays_inside(name: str) -> bool:
    """True for a relative path that is one on every operating system, and that does not climb."""
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
    """What is known of the pictures in one output folder, kept safe while a run adds to it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: dict[str, Entry] = {}
        if (folder / MANIFEST_NAME).exists():
            self._entries = {entry.output: entry for entry in read_manifest(folder / MANIFEST_NAME)}
        self._entries.update(self._read_journal())

    def _read_journal(self) -> dict[str, Entry]:
        path, found = self._folder / _JOURNAL_NAME, {}
        if path.exists():
            for at, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                try:
                    entry = _entry(path, at, _parse(path, at, line))
                except DataError:
                    continue  # a line cut short by a crash; its picture is simply made again
                found[entry.output] = entry
        return found

    def get(self, output: str) -> Entry | None:
        """What is known of the picture with this name."""
        return self._entries.get(output)

    def add(self, entries: Iterable[Entry]) -> None:
        """Note finished pictures, at once on disk."""
        fresh = [entry for entry in entries if self._entries.get(entry.output) != entry]
        if not fresh:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / _JOURNAL_NAME, "a", encoding="utf-8") as file:
            # The line break comes first, so that a line cut short by a crash does not spoil the next.
            file.writelines("\n" + _line(asdict(entry)) for entry in fresh)
        self._entries.update((entry.output, entry) for entry in fresh)

    def close(self) -> Path | None:
        """Write the manifest of all pictures that still exist; the same pictures give the same bytes."""
        kept = [entry for name, entry in sorted(self._entries.items()) if (self._folder / name).exists()]
        path = self._folder / MANIFEST_NAME
        if kept:
            text = "".join(line + "\n" for line in [_line(_HEADER), *(_line(asdict(entry)) for entry in kept)])
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                write_atomically(path, text.encode())
        (self._folder / _JOURNAL_NAME).unlink(missing_ok=True)
        return path if kept else None


def _line(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(", ", ": "))

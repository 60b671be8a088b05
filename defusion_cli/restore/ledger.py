"""``defusion-restore.jsonl``: what was restored, and with which settings, so that a rerun goes on.

One line a written file. It is appended *before* the file appears under its name: a run killed in between leaves a
line without its file, never a file that nobody claims.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from defusion_cli import __version__
from defusion_cli.restore.plan import Job

LEDGER_NAME = "defusion-restore.jsonl"
_SHARES_NAME = "defusion-restore.{}-of-{}.jsonl"
_VERSION = 1


class Ledger:
    """The record of one output folder.

    Of a line only its place is remembered, so that a million of them take little memory. Processes that share a folder
    write files of their own, for on network disks lines of several would mix; all of them are read.

    Parameters
    ----------
    folder
        The output folder, which need not exist yet.
    settings
        Everything that decides the pixels, as plain JSON values.
    share
        The number of this process, from 1, and how many there are.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], share: tuple[int, int] = (1, 1)) -> None:
        self._settings, self._folder = dict(settings), folder
        self._path = folder / (LEDGER_NAME if share[1] == 1 else _SHARES_NAME.format(*share))
        shares = folder.glob(_SHARES_NAME.format("*", "*"))
        self._read = dict.fromkeys(sorted({folder / LEDGER_NAME, self._path, *shares}, key=_changed), 0)
        self._places: dict[str, tuple[tuple[Path, int], ...]] = {}
        self._reading = threading.Lock()
        self._refresh()

    def is_finished(self, job: Job) -> bool:
        """True if the target was made from this very source with these very settings, and is still there."""
        if not job.target.is_file():
            return False
        if self._is_finished(job):
            return True
        self._refresh()  # somebody else may just have made it
        return self._is_finished(job)

    def _is_finished(self, job: Job) -> bool:
        lines = self._lines_of(job)
        last = lines[-1] if lines else {}
        made = (last.get("settings"), last.get("source"), last.get("bytes"))
        return made == (self._settings, _identity(job.source), job.target.stat().st_size)

    def _refresh(self) -> None:
        """Read what was written since, by this or another process."""
        with self._reading:
            for path, start in self._read.items():
                for place, line in _lines(path, start):
                    self._read[path] = place + len(line)
                    name = (_content(line) or {}).get("name")
                    if isinstance(name, str):
                        self._places[name] = (*self._places.get(name, ()), (path, place))

    def facts(self, job: Job, names: Sequence[str]) -> dict[str, Any]:
        """What the last line of a file says under these names, as far as it does."""
        last = (self._lines_of(job) or [{}])[-1]
        return {name: last[name] for name in names if name in last}

    def owns(self, job: Job) -> bool:
        """True if the file at the target was written by an earlier run, and not changed since."""
        with open(job.target, "rb") as file:
            digest = _digest(file)[1]
        return any(line.get("sha256") == digest for line in self._lines_of(job))

    def add(self, job: Job, file: BinaryIO, facts: Mapping[str, Any]) -> None:
        """Record that the content of `file` is about to be put at the target; `facts` are for people to read."""
        size, digest = _digest(file)
        line = {
            "version": _VERSION,
            "name": self._name(job),
            "source": _identity(job.source),
            "bytes": size,
            "sha256": digest,
            "settings": self._settings,
            "defusion": __version__,
            **facts,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(line).encode() + b"\n"  # in ASCII, for not every file name is UTF-8
        with open(self._path, "a+b") as ledger:
            size = ledger.seek(0, os.SEEK_END)
            ledger.seek(max(0, size - 1))
            torn = size > 0 and ledger.read(1) != b"\n"
            ledger.write(b"\n" + text if torn else text)
            ledger.flush()
            os.fsync(ledger.fileno())  # before the file has its name

    def _name(self, job: Job) -> str:
        """A single file may be called otherwise than its original."""
        return job.target.relative_to(self._folder).as_posix()

    def _lines_of(self, job: Job) -> list[dict[str, Any]]:
        """What is recorded of a job, oldest first."""
        lines = []
        for path, place in self._places.get(self._name(job), ()):
            with open(path, "rb") as file:
                file.seek(place)
                lines.append(_content(file.readline()) or {})
        return lines


def _changed(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def _lines(path: Path, start: int) -> Iterator[tuple[int, bytes]]:
    """The whole lines of a file from byte `start` on, each with its place; one that is being written is none yet."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        file.seek(start)
        for line in file:
            if line.endswith(b"\n"):
                yield start, line
            start += len(line)


def _content(line: bytes) -> dict[str, Any] | None:
    """What a line says; None if it cannot be understood, as one that was torn by a kill."""
    try:
        content = json.loads(line.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and content.get("version") == _VERSION else None


def _digest(file: BinaryIO) -> tuple[int, str]:
    """Length and SHA-256 of everything in a file."""
    file.seek(0)
    digest, size = hashlib.sha256(), 0
    while piece := file.read(1 << 20):
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest()


def _identity(source: Path) -> dict[str, int]:
    stat = source.stat()
    return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}

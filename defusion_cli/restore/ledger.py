"""``defusion-restore.jsonl``: what was restored, and with which settings, so that a rerun goes on.

One line a written file. It is appended *before* the file appears under its name: a run killed in between leaves a
line without its file, never a file that nobody claims.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from defusion_cli import __version__
from defusion_cli.restore.plan import Job

LEDGER_NAME = "defusion-restore.jsonl"
_VERSION = 1


class Ledger:
    """The record of one output folder.

    Parameters
    ----------
    folder
        The output folder, which need not exist yet.
    settings
        Everything that decides the pixels, as plain JSON values.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._path, self._settings = folder / LEDGER_NAME, dict(settings)
        self._lines: dict[str, list[dict[str, Any]]] = {}
        for line in self._read():
            self._lines.setdefault(str(line["name"]), []).append(line)

    def _read(self) -> list[dict[str, Any]]:
        """The lines that can be understood; a torn last line, left by a kill, cannot."""
        try:
            text = self._path.read_bytes().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return []
        found = []
        for line in text.splitlines():
            try:
                content = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(content, dict) and content.get("version") == _VERSION and "name" in content:
                found.append(content)
        return found

    def is_finished(self, job: Job) -> bool:
        """True if the target was made from this very source with these very settings, and is still there."""
        lines = self._lines.get(job.name)
        if not lines or not job.target.is_file():
            return False
        last = lines[-1]
        made = (last.get("settings"), last.get("source"), last.get("bytes"))
        return made == (self._settings, _identity(job.source), job.target.stat().st_size)

    def facts(self, job: Job, names: Sequence[str]) -> dict[str, Any]:
        """What the last line of a file says under these names, as far as it does."""
        last = (self._lines.get(job.name) or [{}])[-1]
        return {name: last[name] for name in names if name in last}

    def owns(self, job: Job) -> bool:
        """True if the file at the target was written by an earlier run, and not changed since."""
        with open(job.target, "rb") as file:
            digest = _digest(file)[1]
        return any(line.get("sha256") == digest for line in self._lines.get(job.name, []))

    def add(self, job: Job, file: BinaryIO, facts: Mapping[str, Any]) -> None:
        """Record that the content of `file` is about to be put at the target; `facts` are for people to read."""
        size, digest = _digest(file)
        line = {
            "version": _VERSION,
            "name": job.name,
            "source": _identity(job.source),
            "bytes": size,
            "sha256": digest,
            "settings": self._settings,
            "defusion": __version__,
            **facts,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        with open(self._path, "a+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            torn = size > 0 and file.read(1) != b"\n"
            file.write(b"\n" + text if torn else text)
        self._lines.setdefault(job.name, []).append(line)


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

"""Files that are either whole or not there: atomic writes, and a listing that knows the temporary names."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from defusion_cli.errors import DataError

_TEMPORARY_PREFIX, _TEMPORARY_SUFFIX = ".defusion-", ".tmp"
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How Rust tells the number of a system's error."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` as `staged` does."""
    with staged(path) as file:
        file.write(data)


@contextlib.contextmanager
def staged(path: Path) -> Iterator[BinaryIO]:
    """A file under a hidden name beside `path`, which gets its name at the end: nobody ever sees half a file.

    Missing parent folders are made. Raises whatever `OSError` the disk gives.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _hidden(path)
    try:
        with open(temporary, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """A folder under a hidden name beside `path`, which takes the place of `path` when it is complete.

    Raises
    ------
    OSError
        Whatever the disk gives, also where a library written in Rust (safetensors) has wrapped it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, before = _hidden(path), _hidden(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            sync(file)
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, before)
        os.replace(temporary, path)
        sync(path.parent)
    except Exception as error:
        if wrapped := _OS_ERROR.search(str(error)):
            number = int(wrapped[1])
            raise OSError(number, os.strerror(number), str(path)) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)


def discard_folder(path: Path) -> None:
    """Delete a folder; killed on the way, it does not leave half of it under its name."""
    hidden = _hidden(path)
    with contextlib.suppress(OSError):
        os.replace(path, hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def sync(path: Path) -> None:
    """Force a file or folder to disk, where the platform can."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _hidden(path: Path) -> Path:
    # The temporary name does not contain the final one, which may already be as long as the disk allows.
    return path.parent / f"{_TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}{_TEMPORARY_SUFFIX}"


def remove_leftovers(folder: Path, older_than_s: float = 3600.0, deep: bool = True) -> None:
    """Delete temporary files and folders in `folder` that a killed run left; young ones may be of one that lives.

    With `deep`, those in folders below it, too.
    """
    pattern = f"{_TEMPORARY_PREFIX}*{_TEMPORARY_SUFFIX}"
    for path in folder.rglob(pattern) if deep else folder.glob(pattern):
        with contextlib.suppress(OSError):  # gone already, or not ours to delete
            if time.time() - path.stat().st_mtime > older_than_s:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def existing_part(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    return next((part for part in (path, *path.parents) if os.path.exists(part)), path)


def require_writable(folder: Path) -> None:
    """Raise `OSError` if no file can be made in `folder`, or `folder` itself, without trying it."""
    place = existing_part(folder)
    if os.access(place, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return
    read_only = hasattr(os, "statvfs") and os.statvfs(place).f_flag & os.ST_RDONLY
    number = errno.EROFS if read_only else errno.EACCES
    raise OSError(number, os.strerror(number), str(place))


def require_regular(path: Path) -> None:
    """Raise `OSError` if `path` is missing, or a pipe or device: reading one may wait for ever, and hear no signal."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


def list_files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """As `list_names`, as paths relative to `folder`."""
    return [Path(name) for name in list_names(folder, suffixes)]


def list_names(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """Sorted names of all files below `folder` with one of `suffixes` (lower case, with dot), "/" between folders.

    Hidden and temporary files and folders are left out; links to folders are not followed, so that a loop of links
    ends. Strings take a quarter of the memory of paths.

    Raises
    ------
    DataError
        If `folder` is missing, is no folder, or cannot be listed.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}.", accepted="a folder of pictures", fix=f"ls {folder.parent}")

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be listed: {error.strerror}.", fix=f"chmod u+rx {error.filename}")

    wanted = frozenset(suffixes)
    found: list[str] = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        place = Path(root).relative_to(folder).as_posix()
        before = "" if place == "." else f"{place}/"
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in wanted:
                found.append(before + name)
    found.sort()
    return found

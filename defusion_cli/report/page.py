"""Writing the page: the entries as JSON in one file with its style and script (page.html, page.css, page.js)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from string import Template
from typing import Any, Literal

from defusion_cli import __version__
from defusion_cli.errors import DataError, DefusionError, UsageError
from defusion_cli.files import write_atomically
from defusion_cli.images import read_image
from defusion_cli.report.pictures import MAX_SIDE_PX, Store, preview

INLINE_BYTES = 24_000_000
"""With more previews than this, a page would open slowly; they then lie in a folder beside it."""

_SUFFIXES = (".html", ".htm")
_INFINITE = 1e300
"""JSON knows no infinity; page.js shows numbers from here on as ∞."""


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes
    ----------
    key
        In `Entry.values`.
    title, unit, help
        Head, what stands behind the numbers, and what the head says when pointed at.
    decimals
        Digits behind the point.
    number
        False for words.
    worst
        Which end of the column a reader wants to see first.
    """

    key: str
    title: str
    unit: str = ""
    decimals: int = 2
    number: bool = True
    worst: Literal["low", "high"] = "low"
    help: str = ""


@dataclass(frozen=True)
class Entry:
    """One photograph of the page.

    Attributes
    ----------
    name
        What it is called; names need not be unique.
    pictures
        Files by view: ``before``, ``after``, ``true``.
    values
        By `Column.key`. None, or no key: there is none, which comes last however one sorts.
    problem
        Why there is no picture to see, or None. What has a problem comes first however one sorts.
    notes
        Further remarks for a reader.
    """

    name: str
    pictures: Mapping[str, Path]
    values: Mapping[str, float | str | None] = field(default_factory=dict)
    problem: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """Everything but the entries.

    Attributes
    ----------
    facts
        Settings and results of the whole run: name and value.
    labels
        What each view is called on the pictures.
    pairs
        Which views may be compared, left and right; the first is shown at first.
    first
        Key of the column that the page is sorted by at first, its worst end on top; None keeps the given order.
    """

    title: str
    subtitle: str
    facts: Sequence[tuple[str, str]]
    columns: Sequence[Column]
    labels: Mapping[str, str]
    pairs: Sequence[tuple[str, str]]
    first: str | None = None


def check_page_name(path: Path) -> None:
    """Raise `UsageError` unless `path` can be a page."""
    if path.suffix.lower() not in _SUFFIXES or path.is_dir():
        raise UsageError(
            "--report names no page.", found=str(path), accepted="a file that ends in .html", fix="--report report.html"
        )


def write_page(
    path: Path,
    page: Page,
    entries: Iterable[Entry],
    watch: Callable[[], None] = lambda: None,
    inline_bytes: int = INLINE_BYTES,
) -> Path | None:
    """Write the page, and return the folder beside it that holds its pictures, or None if they are inside.

    Pictures that cannot be read become the problem of their entry.

    Parameters
    ----------
    watch
        Called after every entry.
    inline_bytes
        Most bytes of pictures inside the page.

    Raises
    ------
    UsageError
        If `path` does not end in ``.html``.
    OSError
        If it cannot be written.
    """
    check_page_name(path)
    store = Store(path, inline_bytes)
    rows = []
    for number, entry in enumerate(entries):
        rows.append(_row(number, entry, store))
        watch()
    for row in rows:
        row["views"] = {view: store.address(name) for view, name in row["views"].items()}
    first = next((column for column in page.columns if column.key == page.first), None)
    content = {
        **asdict(page),
        "first": {"key": page.first, "falling": bool(first and first.worst == "high")},
        "footer": f"defusion {__version__}, {time.strftime('%Y-%m-%d %H:%M')}. Pictures are shown as JPEG of at most "
        f"{MAX_SIDE_PX} px a side; the files themselves are untouched.",
        "entries": rows,
    }
    write_atomically(path, _html(page.title, content))
    return store.close()


def _row(number: int, entry: Entry, store: Store) -> dict[str, Any]:
    views: dict[str, str] = {}
    size, problem = (1, 1), entry.problem
    try:
        for view, file in entry.pictures.items():
            jpeg, size = preview(read_image(file))
            views[view] = store.add(number, view, jpeg)
    except DefusionError as error:
        views, problem = {}, problem or _plain(error)
    return {
        "name": entry.name,
        "views": views,
        "size": size,
        "values": {key: _finite(value) for key, value in entry.values.items()},
        "problem": problem,
        "notes": entry.notes,
    }


def _plain(error: DefusionError) -> str:
    return str(error) if isinstance(error, DataError) else error.failed


def _finite(value: float | str | None) -> float | str | None:
    if value is None or isinstance(value, str):
        return value
    if math.isnan(value):
        return None
    return max(-_INFINITE, min(_INFINITE, float(value)))


def _html(title: str, content: Mapping[str, Any]) -> bytes:
    folder = Path(__file__).parent
    css, js, html = (folder.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js", "html"))
    # No "<" inside: a file called </script> must not end the block it stands in.
    data = json.dumps(content, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    title = title.replace("&", "&amp;").replace("<", "&lt;")
    # Bytes of a file name that are no text have become surrogates, which UTF-8 does not have.
    return Template(html).substitute(title=title, css=css, js=js, data=data).encode("utf-8", "replace")

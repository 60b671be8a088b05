"""What a person sees of a running command: results on stdout, everything else on stderr.

Libraries never print; commands and training loops use this module::

    with progress("Restoring", total=len(files), unit="files") as bar:
        for file in files:
            ...
            bar.advance()
            bar.status("loss 0.0123")        # a short text that stays beside the bar
            bar.note(f"{file}: skipped")     # a line that stays on the screen
    summary({"written": 12, "failed": 0}, seconds, where=out)
    result(str(path))                        # what a script reads

Under torchrun only rank zero speaks.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.progress import Progress, TaskID
    from rich.table import Table

PLAIN_LINE_EVERY_S = 10.0
"""Where no bar can be drawn (a log file, a pipe), one line of progress is written this often."""


class Bar(Protocol):
    """A running progress report."""

    def advance(self, steps: int = 1) -> None:
        """`steps` more are done."""

    def status(self, text: str) -> None:
        """Show `text` beside the bar until the next call."""

    def note(self, text: str) -> None:
        """Write `text` as a line of its own, above the bar."""


def speaks() -> bool:
    """True for the one process that may write to the screen: rank zero, or the only one there is."""
    return os.environ.get("RANK", "0") == "0"


def result(text: str) -> None:
    """One line of result on stdout."""
    if speaks():
        print(text, flush=True)


def note(text: str) -> None:
    """One line for the person at the screen, on stderr."""
    if speaks():
        print(text, file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """One line on stderr from whatever process: of what nobody else knows."""
    sys.stderr.write(f"{text}\n")  # in one piece, as several may write at once
    sys.stderr.flush()


def print_json(kind: str, payload: Mapping[str, Any], version: int = 1) -> None:
    """One JSON object on stdout: ``{"kind": kind, "version": version, **payload}``.

    Raise `version` when a key changes its meaning or goes away. Numbers that JSON cannot hold become null. A value that
    is an iterator becomes a list that is never in memory as a whole.
    """
    if speaks():
        sys.stdout.writelines(_json_pieces({"kind": kind, "version": version, **payload}))
        sys.stdout.flush()


def show(renderable: RenderableType) -> None:
    """A Rich table or the like on stdout: as wide as the terminal, or wide enough for everything when piped.

    Where a table would have to cut words off, its rows are written one below the other.
    """
    if not speaks():
        return
    from rich.measure import Measurement
    from rich.table import Table

    screen = _console(sys.stdout)
    if isinstance(renderable, Table) and Measurement.get(screen, _unbounded(screen), renderable).minimum > screen.width:
        for line in _records(renderable):
            screen.print(line)
    else:
        screen.print(renderable)


def summary(counts: Mapping[str, int], seconds: float, where: object = None) -> None:
    """The closing line on stderr: ``12 written, 1 failed in 3.4 s; in out/``. Counts of zero are left out."""
    parts = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing to do"
    note(f"{parts} in {duration(seconds)}" + (f"; in {where}" if where is not None else ""))


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@contextmanager
def progress(description: str, total: int | None, unit: str = "files", done: int = 0) -> Iterator[Bar]:
    """Report how far a loop is: a bar on a terminal, a line every ten seconds elsewhere, nothing off rank zero.

    Parameters
    ----------
    total
        Number of steps, or None when nobody knows.
    unit
        What a step is, in the plural; shown with the rate.
    done
        Steps that an earlier run already did; the rate counts from there.
    """
    if not speaks():
        yield _Silent()
    elif not sys.stderr.isatty():
        yield _Lines(description, total, unit, done)
    else:
        with _rich_progress() as rich:
            task = rich.add_task(description, total=total, completed=done, unit=unit, status="", begun=done)
            yield _RichBar(rich, task)


class _Silent:
    def advance(self, steps: int = 1) -> None:
        pass

    def status(self, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class _Lines:
    """Progress for files and pipes."""

    def __init__(self, description: str, total: int | None, unit: str, done: int) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._begun, self._done, self._status = done, done, ""
        self._start = self._last = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._last >= PLAIN_LINE_EVERY_S:
            self._last = now
            rate = (self._done - self._begun) / (now - self._start)
            note(self._line(rate))

    def _line(self, rate: float) -> str:
        of = f"/{self._total:g}" if self._total is not None else ""
        left = f", {duration((self._total - self._done) / rate)} left" if self._total is not None and rate > 0 else ""
        status = f", {self._status}" if self._status else ""
        return f"{self._description}: {self._done:g}{of} {self._unit}, {rate:.3g} {self._unit}/s{left}{status}"

    def status(self, text: str) -> None:
        self._status = text

    def note(self, text: str) -> None:
        note(text)


class _RichBar:
    """Progress for terminals."""

    def __init__(self, rich: Progress, task: TaskID) -> None:
        self._rich, self._task = rich, task

    def advance(self, steps: int = 1) -> None:
        self._rich.advance(self._task, steps)

    def status(self, text: str) -> None:
        self._rich.update(self._task, status=text)

    def note(self, text: str) -> None:
        self._rich.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _rich_progress() -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            rate = task.finished_speed or task.speed
            return Text(f"{rate:.3g} {task.fields['unit']}/s" if rate else "")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}", markup=False),
    )
    return Progress(*columns, console=_console(sys.stderr), transient=True)


def _console(stream: Any) -> Console:
    from rich.console import Console

    # Rich cuts tables to 80 columns where there is no terminal; a file or pipe has room.
    width = None if stream.isatty() or "COLUMNS" in os.environ else 160
    return Console(file=stream, width=width, highlight=False, markup=False)


def _unbounded(screen: Console) -> ConsoleOptions:
    return screen.options.update(max_width=10_000)


def _records(table: Table) -> Iterator[RenderableType]:
    """The first cell of each row, and below it the others with the heads of their columns."""
    from rich.padding import Padding
    from rich.text import Text

    if table.title:
        yield table.title
    for first, *others in zip(*(column.cells for column in table.columns), strict=True):
        yield first
        for column, cell in zip(table.columns[1:], others, strict=True):
            head = f"{column.header}: " if column.header else ""
            yield Padding(Text.assemble(head, cell), (0, 0, 0, 2), expand=False)
    if table.caption:
        yield table.caption


def _json_pieces(document: Mapping[str, Any]) -> Iterator[str]:
    comma = ""
    for key, value in document.items():
        yield f"{comma or '{'}\n  {json.dumps(key)}: "
        if isinstance(value, Iterator):
            yield from _list_pieces(value)
        else:
            yield _json(value, indent=2)
        comma = ","
    yield "\n}\n"


def _list_pieces(items: Iterator[Any]) -> Iterator[str]:
    comma = ""
    for item in items:
        yield f"{comma or '['}\n    {_json(item, indent=4)}"
        comma = ","
    yield "\n  ]" if comma else "[]"


def _json(value: Any, indent: int) -> str:
    # Line ends inside of strings are escaped: every one that is there separates lines.
    return json.dumps(_finite(value), indent=2, ensure_ascii=False).replace("\n", "\n" + indent * " ")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return None
    return value

"""Every error a user can see: what failed, what was found, what is accepted, and the fix.

The exit codes are part of the interface: 0 done, 1 failed, 2 usage, 3 bad data, 4 plugin, 130 interrupted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DefusionError(Exception):
    """A failure that is explained in one sentence, with the way out.

    Parameters
    ----------
    failed
        What failed, as one sentence.
    found, accepted
        What was found, and what would have been accepted in its place.
    fix
        A command or flag that gets the user further.
    """

    exit_code = 1

    def __init__(
        self,
        failed: str,
        *,
        found: str | None = None,
        accepted: str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(failed)
        self.failed = failed
        self.found = found
        self.accepted = accepted
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.failed]
        if self.found is not None:
            lines.append(f"  found:    {self.found}")
        if self.accepted is not None:
            lines.append(f"  accepted: {self.accepted}")
        if self.fix is not None:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class UsageError(DefusionError):
    """A flag, a configuration key or a combination of them that cannot be used."""

    exit_code = 2


class DataError(DefusionError):
    """A file or folder of the user's that cannot be read, written or paired."""

    exit_code = 3


class PluginError(DefusionError):
    """A degradation plugin that cannot be loaded, or that broke its contract."""

    exit_code = 4


def one_line(text: str) -> str:
    """A stranger's words without line breaks, escape codes and other characters that have no look of their own."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The nearest known name to a mistyped one, or None."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.55)
    return close[0] if close else None

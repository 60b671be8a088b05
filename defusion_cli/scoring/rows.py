"""What became of every pair: a row each to look at, numbers in arrays to keep."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from defusion_cli.errors import DefusionError
from defusion_cli.scoring.lazy import Lazy
from defusion_cli.scoring.pairs import Pair


@dataclass(slots=True)
class Row:
    """What became of one pair.

    Attributes
    ----------
    pair
        The files.
    scores, baseline
        Values by metric; `baseline` those of the input, empty without one.
    problem
        Why there are none, or None.
    notes
        What a reader of the numbers should know about these files.
    """

    pair: Pair
    scores: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    problem: DefusionError | None = None
    notes: tuple[str, ...] = ()


class Rows(Lazy[Row]):
    """The rows of a run in order; a row with scores takes eight bytes a number.

    Parameters
    ----------
    pairs
        Those that rows will be added for, in this order.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self._kinds: list[_Kind] = []
        self._starts = array("q")
        self._numbers = array("d")
        self._known: dict[_Kind, _Kind] = {}
        self._problems: dict[int, DefusionError] = {}

    def add(self, row: Row) -> None:
        """Keep what the next pair's row says."""
        if row.problem is not None:
            # The traceback holds on to the pictures that the functions in it had in their hands.
            self._problems[len(self)] = row.problem.with_traceback(None)
        kind = (tuple(row.scores), tuple(row.baseline), row.notes)
        self._starts.append(len(self._numbers))
        self._kinds.append(self._known.setdefault(kind, kind))
        self._numbers.extend(row.scores.values())
        self._numbers.extend(row.baseline.values())

    def __len__(self) -> int:
        """Number of rows so far."""
        return len(self._kinds)

    def _make(self, index: int) -> Row:
        scores, baseline, notes = self._kinds[index]
        start = self._starts[index]
        middle = start + len(scores)
        return Row(
            self._pairs[index],
            dict(zip(scores, self._numbers[start:middle], strict=True)),
            dict(zip(baseline, self._numbers[middle : middle + len(baseline)], strict=True)),
            self._problems.get(index),
            notes,
        )


_Kind = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""Names of the scores, of the scores of the input, and notes: the same for nearly all rows of a run."""

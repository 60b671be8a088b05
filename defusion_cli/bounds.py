"""Settings of a recipe that are out of range, told all at once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from defusion_cli.errors import UsageError

Bound = tuple[str, bool, str]
"""The name of a setting (a dot reaches into a recipe or mapping within), whether it is in range, what its range is."""

SHARE, POSITIVE, NOT_NEGATIVE, COUNT = "0 to 1", "above 0", "0 or more", "1 or more"


def check_bounds(of_what: str, recipe: object, bounds: Iterable[Bound]) -> None:
    """Raise one `UsageError` for all settings of a recipe (a dataclass) that are out of range, or no finite numbers."""
    wrong = dict.fromkeys(_not_finite(recipe), "a finite number")
    wrong |= {name: accepted for name, fine, accepted in bounds if not fine and name not in wrong}
    if not wrong:
        return
    one = len(wrong) == 1
    raise UsageError(
        f"The setting{'' if one else 's'} {', '.join(wrong)} of the {of_what} {'is' if one else 'are'} out of range.",
        found=", ".join(str(_value(recipe, name)) if one else f"{name} {_value(recipe, name)}" for name in wrong),
        accepted=", ".join(range_ if one else f"{name} {range_}" for name, range_ in wrong.items()),
        fix=" ".join(f"--set {name}=…" for name in wrong),
    )


def within(low: float, value: object, high: float) -> bool:
    """Whether `value` is a number from `low` to `high`."""
    return isinstance(value, (int, float)) and low <= value <= high


def is_range(pair: tuple[float, ...]) -> bool:
    """Whether these are two numbers above 0, the second not below the first."""
    return len(pair) == 2 and 0 < pair[0] <= pair[1]


def all_at_least(low: float, values: Mapping[str, object]) -> bool:
    """Whether all values of a mapping are numbers of at least `low`."""
    return all(within(low, value, math.inf) for value in values.values())


def _not_finite(recipe: Any, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(recipe):
        name, value = prefix + field.name, getattr(recipe, field.name)
        if dataclasses.is_dataclass(value):
            yield from _not_finite(value, f"{name}.")
            continue
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else [value]
        if any(isinstance(part, float) and not math.isfinite(part) for part in parts):
            yield name


def _value(recipe: Any, name: str) -> Any:
    for part in name.split("."):
        recipe = recipe[part] if isinstance(recipe, Mapping) else getattr(recipe, part)
    return dict(recipe) if isinstance(recipe, Mapping) else recipe

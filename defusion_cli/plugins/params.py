"""Typed, bounded plugin parameters: declared once, validated by the host, round-tripped through JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from defusion_cli.errors import UsageError, did_you_mean

Scalar = float | int | bool | str
P = TypeVar("P")


def param(
    default: Scalar,
    *,
    meaning: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """One field of a plugin's frozen ``Params`` dataclass.

    Parameters
    ----------
    default
        The value used when a caller names no other; its type (float, int, bool or str) is the field's type.
    meaning
        What the number does to the picture, in a few words; shown by ``degrade --list``.
    unit
        Unit of the number: ``px``, ``deg``, ``m``, ``1/m``, ``fraction of full scale`` …
    low, high
        Inclusive bounds; required for numbers.
    choices
        Accepted values; required for strings.
    """
    if isinstance(default, str):
        if default not in choices:
            raise TypeError(f"default {default!r} of a text parameter must be one of its choices {tuple(choices)}")
    elif not isinstance(default, bool) and (low is None or high is None or not low <= default <= high):
        raise TypeError(f"a numeric parameter needs low <= default <= high, got {low} <= {default} <= {high}")
    metadata = {"meaning": meaning, "unit": unit, "low": low, "high": high, "choices": tuple(choices)}
    return dataclasses.field(default=default, metadata=metadata)


def _checked(owner: str, field: dataclasses.Field[Any], value: object) -> Scalar:
    """`value` as the type of `field`, or a UsageError naming what is accepted."""
    name, default, meta = f"{owner}.{field.name}", field.default, field.metadata
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        if str(value).lower() in {"true", "false"}:
            return str(value).lower() == "true"
        raise UsageError(f"{name} is not a truth value.", found=repr(value), accepted="true or false")
    if isinstance(default, str):
        if value in meta["choices"]:
            return str(value)
        accepted = ", ".join(meta["choices"])
        raise UsageError(f"{name} has no such choice.", found=repr(value), accepted=accepted)
    accepted = f"{meta['low']:g} … {meta['high']:g} {meta['unit']}".rstrip()
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)  # type: ignore[arg-type]
        if isinstance(default, int) and number != int(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise UsageError(f"{name} is not {kind}.", found=repr(value), accepted=accepted) from None
    if not math.isfinite(number) or not meta["low"] <= number <= meta["high"]:
        raise UsageError(f"{name} is out of range.", found=f"{number:g}", accepted=accepted)
    return int(number) if isinstance(default, int) else number


def build_params(cls: type[P], values: Mapping[str, object], owner: str) -> P:
    """A validated ``Params`` from plain values; keys left out keep their defaults.

    Raises
    ------
    UsageError
        For an unknown key, a wrong type, or a value out of range.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            near = did_you_mean(key, fields)
            raise UsageError(
                f"{owner} has no parameter {key!r}.",
                accepted=", ".join(fields),
                fix=f"did you mean {owner}.{near}?" if near else f"defusion degrade --list --plugin {owner}",
            )
    return cls(**{key: _checked(owner, fields[key], value) for key, value in values.items()})


def replace_params(params: P, values: Mapping[str, object], owner: str) -> P:
    """`params` with some fields replaced, everything validated again."""
    merged = {**dataclasses.asdict(params), **values}  # type: ignore[call-overload]
    return build_params(type(params), merged, owner)


def params_to_json(params: object) -> dict[str, Scalar]:
    """Plain JSON values of a ``Params``; ``build_params`` gives the same object back."""
    return dataclasses.asdict(params)  # type: ignore[call-overload]


def describe_params(cls: type[Any]) -> list[dict[str, Any]]:
    """One row a field (name, default, unit, low, high, choices, meaning) for listings and docs."""
    return [{"name": f.name, "default": f.default, **f.metadata} for f in dataclasses.fields(cls)]

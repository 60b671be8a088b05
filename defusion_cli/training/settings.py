"""``--set key=value`` onto a frozen recipe dataclass: typed by the present value, unknown keys refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from defusion_cli.errors import UsageError, did_you_mean

R = TypeVar("R")


def split_setting(setting: str) -> tuple[str, str]:
    """``key=value`` as a pair; the value may be empty, the key may not."""
    key, separator, text = setting.partition("=")
    if not separator or not key:
        raise UsageError("A setting is written KEY=VALUE.", found=setting, fix="--set steps=5000")
    return key.strip(), text.strip()


def values_of(recipe: object) -> dict[str, Any]:
    """The fields of a recipe by name."""
    return {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}  # type: ignore[arg-type]


def set_value(fields: dict[str, Any], key: str, text: str) -> None:
    """Change one of the fields of a recipe; a dot reaches into a nested dataclass (``synthesis.view_px``).

    A recipe is made of them when all are changed, so that settings that allow one another may come in any order.

    Raises
    ------
    UsageError
        If the key is unknown or the value does not parse.
    """
    head, _, rest = key.partition(".")
    head = head.replace("-", "_")  # as options are written; what follows a dot may be the id of a plugin
    if head not in fields:
        near = did_you_mean(head, fields)
        raise UsageError(
            f"There is no setting {key!r}.",
            accepted=", ".join(sorted(fields)),
            fix=f"--set {near}=…" if near else None,
        )
    if rest and isinstance(fields[head], dict):
        value: Any = {**fields[head], rest: parse_free(text)}
    elif rest:
        if not dataclasses.is_dataclass(fields[head]):
            raise UsageError(f"The setting {head!r} has no parts.", fix=f"--set {head}={text}")
        part = values_of(fields[head])
        set_value(part, rest, text)
        value = dataclasses.replace(fields[head], **part)
    else:
        value = parse_like(key, text, fields[head])
    fields[head] = value


def parse_like(key: str, text: str, current: object) -> Any:
    """`text` as a value of the type of `current`; tuples are separated by commas.

    Raises
    ------
    UsageError
        If it does not parse.
    """
    try:
        if isinstance(current, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(current, tuple):
            kind = type(current[0]) if current else str
            parts = [part.strip() for part in text.split(",") if part.strip()]
            return tuple(kind(part) for part in parts)
        if isinstance(current, int):
            return int(text.replace("_", ""))
        if isinstance(current, float):
            return float(text)
        if isinstance(current, str):
            return text
    except (KeyError, ValueError):
        pass
    accepted = {bool: "true or false", int: "a whole number", float: "a number"}
    raise UsageError(
        f"The setting {key} cannot be read.",
        found=text or "nothing",
        accepted=accepted.get(type(current), "values separated by commas"),
    )


def parse_free(text: str) -> Any:
    """`text` where no present value tells its type: truth value, number, text, or several of them by commas."""
    if "," in text:
        return tuple(parse_free(part) for part in text.split(",") if part)
    if text in {"true", "false"}:
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def set_all(recipe: R, settings: Sequence[str]) -> R:
    """`recipe` with several ``key=value`` settings."""
    fields = values_of(recipe)
    for setting in settings:
        set_value(fields, *split_setting(setting))
    return dataclasses.replace(recipe, **fields)  # type: ignore[type-var]


def check_emphasis(name: str, emphasis: Mapping[str, float], ids: Sequence[str]) -> None:
    """Raise `UsageError` if the setting `name` leaves none of the degradations `ids` to be drawn."""
    if not any(emphasis.get(plugin_id, 1.0) for plugin_id in ids):
        raise UsageError(
            f"The setting {name} leaves no degradation to draw.",
            found=", ".join(f"{plugin_id} 0" for plugin_id in ids),
            accepted="more than 0 for one of them",
            fix=f"--set {name}.{ids[0]}=1",
        )

"""Mixture files: what a model is trained on, written down once.

A TOML file with one table a source::

    root = "datasets"            # where relative paths start; itself relative to this file

    [[source]]
    set = "gopro"                # an adapter's id, as in `defusion data list`
    path = "GOPRO_Large"
    weight = 1.0                 # how often it is drawn from, relative to the others

    [[source]]
    path = "photos"              # without `set`: clean photographs, damaged on the fly …
    degradations = ["jpeg"]      # … by these plugins, or by all of them if this is left out

Further keys: ``split`` (``official``, ``seed90`` or a list), ``part`` (``train``, ``val``, ``test``, ``all``),
``subset``, ``exclude`` (a folder with the set whose scenes must stay out), ``paired = true`` for a folder with
``degraded/`` and ``clean/`` that shows `degradations`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from defusion_cli.data.adapters import Selection, dataset
from defusion_cli.data.sources import Photo, PhotoSource, folder_photos, parse_source, set_photos
from defusion_cli.errors import DataError, DefusionError, UsageError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class MixtureSource:
    """One ``[[source]]``; see the module for the keys."""

    path: str
    set: str = ""
    subset: str = ""
    split: str = "official"
    part: str = "train"
    exclude: str = ""
    degradations: tuple[str, ...] = ()
    paired: bool = False
    weight: float = 1.0


_KINDS = {field.name: str(field.type) for field in fields(MixtureSource)}


def parse_sources(texts: Sequence[str]) -> list[PhotoSource]:
    """Sources from the values of ``--data``: mixture files (``.toml``) and what `parse_source` reads.

    Raises
    ------
    UsageError
        If a value or a file is malformed.
    DataError
        If a folder is missing or does not hold what it should; all such folders of one file are named together.
    """
    sources: list[PhotoSource] = []
    for text in texts:
        sources += load_mixture(Path(text).expanduser()) if text.endswith(".toml") else [parse_source(text)]
    return sources


def load_mixture(path: Path) -> list[PhotoSource]:
    """The photographs that a mixture file names; errors as for `parse_sources`."""
    root, entries = read_mixture(path)
    sources, problems = [], []
    for entry in entries:
        try:
            sources.append(PhotoSource(_photos(entry, root), entry.weight))
        except DefusionError as error:
            if isinstance(error, UsageError) or len(entries) == 1:
                raise
            problems.append(error.failed + (f" ({error.fix})" if error.fix else ""))
    if problems:
        raise DataError(
            f"{len(problems)} of {len(entries)} sources in {path} cannot be used.",
            found="\n            ".join(problems),
            fix="correct the paths, or take these sources out of the file",
        )
    return sources


def read_mixture(path: Path) -> tuple[Path, list[MixtureSource]]:
    """The folder that relative paths start from, and the sources; folders are not looked at.

    Raises
    ------
    UsageError
        If the file is missing, is not TOML, or has unknown keys or values of a wrong kind.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The mixture file {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"The mixture file {path} is not TOML.", found=str(error)) from None
    _refuse_unknown(content, ("root", "source"), f"{path}")
    tables, root = content.get("source"), content.get("root", ".")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{path} names no sources.", accepted='one table [[source]] each, with path = "…"')
    if not isinstance(root, str):
        raise UsageError(f"root in {path} is not a folder.", found=str(root)[:80], accepted="text")
    folder = path.parent / Path(root).expanduser()
    return folder, [_source(table, f"source {number} of {path}") for number, table in enumerate(tables, 1)]


def _source(table: Mapping[str, object], where: str) -> MixtureSource:
    _refuse_unknown(table, list(_KINDS), where)
    values = {key: _value(key, value, where) for key, value in table.items()}
    if not values.get("path"):
        raise UsageError(f"{where} has no path.", fix='path = "folder"')
    source = MixtureSource(**values)  # type: ignore[arg-type]
    if source.set:
        dataset(source.set)  # raises, with the nearest name
    elif source.paired and not source.degradations:
        raise UsageError(f"{where} does not say what its pairs show.", fix='degradations = ["rain"]')
    if not 0 < source.weight < 1e6:
        raise UsageError(f"The weight of {where} cannot be used.", found=str(source.weight), accepted="above zero")
    return source


def _refuse_unknown(table: Mapping[str, object], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            near = did_you_mean(key, known)
            fix = f"did you mean {near}?" if near else None
            raise UsageError(f"{where} has an unknown key.", found=key, accepted=", ".join(known), fix=fix)


def _value(key: str, value: object, where: str) -> object:
    kind = _KINDS[key]
    if kind == "float" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "str" and isinstance(value, str):
        return value
    if kind.startswith("tuple") and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    accepted = {"float": "a number", "bool": "true or false", "str": "text"}.get(kind, 'a list, as in ["rain", "snow"]')
    raise UsageError(f"{key} of {where} has a wrong value.", found=str(value)[:80], accepted=accepted)


def _photos(source: MixtureSource, root: Path) -> tuple[Photo, ...]:
    folder = root / Path(source.path).expanduser()
    shown = "+".join(source.degradations)
    if not source.set:
        return folder_photos(str(folder), shown, paired=source.paired)
    subsets = (source.subset,) if source.subset else ()
    split = source.split
    if split not in ("official", "seed90"):
        split = str(root / Path(split).expanduser())
    exclude = root / Path(source.exclude).expanduser() if source.exclude else None
    spec = dataset(source.set)
    # What a clean photograph is damaged with is for the mixture to say; what a pair shows is known.
    degradation = shown if shown or not spec.paired else None
    return set_photos(
        Selection(spec, subsets, split), folder, part=source.part, exclude=exclude, degradation=degradation
    )

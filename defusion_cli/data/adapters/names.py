"""Which two files belong together by their names alone: for folders that are not laid out as the set is.

Results of a model lie in a folder of their own, often without the folders of the set, and keep the names of the
damaged pictures. The same templates that find the pairs of a set tell what such names have in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from defusion_cli.data.adapters.pairing import within
from defusion_cli.data.adapters.spec import DatasetSpec, Fields, Layout, Template


@dataclass(frozen=True)
class Twins:
    """What names tell.

    Attributes
    ----------
    clean
        The clean picture by damaged one.
    folders
        How many folders of the damaged pictures the reading explains.
    rivals
        Two clean pictures that one damaged picture could belong to; nothing is paired then.
    rule
        How they were recognised, in words.
    problem
        Why pictures that pair by position do not; empty otherwise.
    """

    clean: Mapping[Path, Path]
    rule: str
    folders: int = 0
    rivals: tuple[Path, Path] | None = None
    problem: str = ""


def twins_by_name(spec: DatasetSpec, damaged: Sequence[Path], clean: Sequence[Path]) -> Twins:
    """The reading of the names that pairs most pictures.

    Parameters
    ----------
    damaged, clean
        Paths below two folders. `clean` may also hold other files of the set, such as a whole archive does.
    """
    attempts = [attempt for reading in _readings(spec) for attempt in _attempts(reading, damaged, clean)]
    return max(attempts, key=_merit)


def _merit(twins: Twins) -> tuple[int, int, bool, bool]:
    return len(twins.clean), twins.folders, twins.rivals is not None, bool(twins.problem)


@dataclass(frozen=True)
class _Reading:
    spec: DatasetSpec
    layout: Layout
    damaged: Template
    clean: Template

    @property
    def text(self) -> str:
        sides = [str(template).rpartition("/")[2] for template in (self.damaged, self.clean)]
        return f"{self.spec.title}, {sides[0]} with {sides[1]}"


def _readings(spec: DatasetSpec) -> Iterator[_Reading]:
    for layout in spec.layouts:
        for rule in layout.rules:
            damaged, clean = rule.templates
            yield _Reading(spec, layout, damaged or clean, clean)


def _attempts(reading: _Reading, damaged: Sequence[Path], clean: Sequence[Path]) -> Iterator[Twins]:
    """With what the folders say, and without, since results may lie in other folders."""
    for folders in (True, False):
        results, known = _read(reading.damaged, damaged, folders=folders)
        references = _nearest(*_read(reading.clean, clean, folders=folders))
        pair = _by_position if reading.layout.position_gap else _by_fields
        yield replace(pair(reading, results, references), folders=sum(known.values()))


_Read = dict[Path, Fields]


def _read(template: Template, paths: Sequence[Path], *, folders: bool) -> tuple[_Read, dict[Path, int]]:
    """Fields of the paths that fit, and how many of their folders the template knows."""
    fields: _Read = {}
    known: dict[Path, int] = {}
    for path in paths:
        of_name = template.match_name(path.stem)
        if of_name is not None:
            of_folders, known[path] = _read_folders(template, path) if folders else ({}, 0)
            fields[path] = {**of_folders, **of_name}
    return fields, known


def _read_folders(template: Template, path: PurePath) -> tuple[dict[str, str], int]:
    """Fields of the folders, any of which may be missing, from the innermost outwards."""
    fields: dict[str, str] = {}
    parts = list(path.parts[:-1])
    known = 0
    for pattern in reversed(template.folder_patterns):
        match = pattern.fullmatch(parts[-1]) if parts else None
        if match is not None:
            fields |= {name: (value or "").lower() for name, value in match.groupdict().items()}
            parts.pop()
            known += 1
    return fields, known


def _nearest(fields: _Read, known: Mapping[Path, int]) -> _Read:
    """Those in the folders of the template: in a whole archive, other pictures may have the same names."""
    most = max(known.values(), default=0)
    return {path: values for path, values in fields.items() if known[path] == most}


def _by_fields(reading: _Reading, damaged: Mapping[Path, Fields], clean: Mapping[Path, Fields]) -> Twins:
    shared = [name for name in reading.damaged.fields if name in reading.clean.fields]
    # What one side does not say cannot be compared.
    shared = [name for name in shared if all(name in f for side in (damaged, clean) for f in side.values())]
    places: dict[tuple[str, ...], list[Path]] = {}
    for path, fields in clean.items():
        places.setdefault(tuple(fields[name] for name in shared), []).append(path)
    twins: dict[Path, Path] = {}
    for path, fields in damaged.items():
        candidates = places.get(tuple(fields[name] for name in shared), [])
        if len(candidates) > 1:
            return Twins({}, reading.text, rivals=(candidates[0], candidates[1]))
        if candidates:
            twins[path] = candidates[0]
    return Twins(twins, reading.text)


def _by_position(reading: _Reading, damaged: Mapping[Path, Fields], clean: Mapping[Path, Fields]) -> Twins:
    rule = f"{reading.spec.title}, by position after sorting"
    sides = [sorted(side, key=lambda path: path.as_posix()) for side in (damaged, clean)]
    if len(sides[0]) != len(sides[1]):
        return Twins({}, rule, problem=f"{len(sides[0])} pictures beside {len(sides[1])}")
    for one, other in zip(*sides, strict=True):
        if not within(one.stem, other.stem, reading.layout.position_gap):
            return Twins({}, rule, problem=f"{one.name} would meet {other.name}: a picture before them is missing")
    return Twins(dict(zip(*sides, strict=True)), rule)

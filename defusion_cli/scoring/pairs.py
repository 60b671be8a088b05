"""Which restored picture belongs to which true one: by name, never by the order of a sorted list."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from defusion_cli.data.adapters import DatasetSpec, twins_by_name
from defusion_cli.errors import DataError
from defusion_cli.images import READABLE, list_image_names
from defusion_cli.scoring.lazy import Lazy


@dataclass(frozen=True, slots=True)
class Pair:
    """One picture to score.

    Attributes
    ----------
    name
        Path of the restored picture below its folder, with forward slashes.
    out
        The restored picture.
    ref
        The true picture; None where only metrics without reference are asked for.
    baseline
        What the restoration began from, or None.
    """

    name: str
    out: Path
    ref: Path | None = None
    baseline: Path | None = None


class Pairs(Lazy[Pair]):
    """Pairs of the pictures of two or three folders, kept as their names below these.

    Parameters
    ----------
    out, ref, baseline
        The folders; None for what the pairs do not have.
    """

    def __init__(self, out: Path, ref: Path | None = None, baseline: Path | None = None) -> None:
        self._folders = (out, ref, baseline)
        self._names: tuple[list[str], list[str], list[str]] = ([], [], [])

    def add(self, out: str, ref: str = "", baseline: str = "") -> None:
        """One more pair: the names in the three folders."""
        for names, name in zip(self._names, (out, ref, baseline), strict=True):
            names.append(out if name == out else name)  # one string, not two equal ones

    def __len__(self) -> int:
        """Number of pairs so far."""
        return len(self._names[0])

    def _make(self, index: int) -> Pair:
        out, ref, baseline = self._folders
        name, of_ref, of_baseline = (names[index] for names in self._names)
        return Pair(name, out / name, ref / of_ref if ref else None, baseline / of_baseline if baseline else None)


@dataclass(frozen=True)
class Pairing:
    """What `pair_folders` found.

    Attributes
    ----------
    pairs
        In the order of their names.
    orphans
        Pictures to score that have no partner, as one sentence each.
    unused
        Number of true pictures that nothing was compared with.
    rule
        How they were paired, in words.
    """

    pairs: Sequence[Pair]
    orphans: tuple[str, ...]
    unused: int
    rule: str


_STEM_RULE = "same path below the folder, whatever the suffix"
_BARE_RULE = "same file name, whatever the folder and suffix"


def stem_key(name: str) -> str:
    """Name below the folder without the suffix: ``a/b.png`` and ``a/b.jpg`` belong together."""
    return os.path.splitext(name)[0]


def _bare_key(name: str) -> str:
    return stem_key(name).rpartition("/")[2]


def pair_folders(
    out: Path, ref: Path | None, baseline: Path | None = None, data_set: DatasetSpec | None = None
) -> Pairing:
    """Pair the pictures below `out` with those below `ref` and `baseline`.

    Parameters
    ----------
    out, ref, baseline
        Folders, or one picture each; `ref` may be None for metrics that need no reference.
    data_set
        The set whose names decide. Without one, or where its names pair fewer, the same path without suffix does;
        folders that are arranged differently are paired by bare file names, provided these are unique.

    Raises
    ------
    DataError
        If a folder is missing or empty, no picture has a partner, a name is ambiguous, or only one is a picture.
    """
    if out.is_file():
        return _pair_of_files(out, ref, baseline)
    outputs = _listed(out)
    if ref is None:
        pairs = Pairs(out)
        for name in outputs:
            pairs.add(name)
        return Pairing(pairs, (), 0, "no reference")
    references = _listed(ref)
    baselines = _listed(baseline) if baseline else []
    matches = _matches(outputs, references, out, ref, data_set)
    of_base = _baselines(outputs, baselines)
    pairs, orphans = Pairs(out, ref, baseline), []
    for name in outputs:
        twin, source = matches.twins.get(name), of_base.get(name)
        if twin is None:
            orphans.append(f"{out / name} has no partner in {ref}")
        elif baseline and source is None:
            orphans.append(f"{out / name} has no partner in {baseline}")
        else:
            pairs.add(name, twin, source or "")
    if not pairs and matches.twins and baseline:
        ref, references = baseline, baselines
    if not pairs:
        raise _strangers(out, outputs, ref, references, matches.rule)
    unused = len(set(references) - set(matches.twins.values()))
    return Pairing(pairs, tuple(orphans), unused, matches.rule)


@dataclass(frozen=True)
class _Matches:
    """True picture by restored one, and the rule; no two pictures of a folder may have one key."""

    twins: Mapping[str, str]
    rule: str
    key: Callable[[str], str] = stem_key


def _pair_of_files(out: Path, ref: Path | None, baseline: Path | None) -> Pairing:
    for other in (ref, baseline):
        if other is not None and not other.is_file():
            what = "is a folder" if other.is_dir() else "does not exist"
            raise DataError(f"{other} {what}.", accepted=f"a picture, because {out} is one")
    pairs = Pairs(out.parent, ref and ref.parent, baseline and baseline.parent)
    pairs.add(out.name, ref.name if ref else "", baseline.name if baseline else "")
    return Pairing(pairs, (), 0, "as they were named" if ref else "no reference")


def _listed(folder: Path) -> list[str]:
    found = list_image_names(folder)
    if not found:
        raise DataError(f"{folder} holds no picture.", accepted=f"{READABLE} files", fix=f"ls {folder}")
    return found


def _matches(
    outputs: Sequence[str], references: Sequence[str], out: Path, ref: Path, data_set: DatasetSpec | None
) -> _Matches:
    stems = _by_stems(outputs, references)
    if data_set is not None:
        found = twins_by_name(data_set, [Path(name) for name in outputs], [Path(name) for name in references])
        # Names of a set that pairs by position meet by chance, so they count only where all of them do.
        if found.problem and len(stems.twins) < len(outputs):
            raise DataError(
                f"{out} and {ref} do not pair as {data_set.title} does, by position after sorting.",
                found=found.problem,
                accepted="all pictures of one part of the set on both sides",
            )
        if found.rivals:
            one, other = found.rivals
            raise _rivals(ref, one.as_posix(), other.as_posix(), found.rule)
        if len(found.clean) >= len(stems.twins):
            by_name = {path.as_posix(): twin.as_posix() for path, twin in found.clean.items()}
            by_set = _Matches(by_name, found.rule)
            _refuse_twins(outputs, out, by_set)
            return by_set
    for folder, names in ((out, outputs), (ref, references)):
        _refuse_twins(names, folder, stems)
    return stems


def _by_stems(outputs: Sequence[str], references: Sequence[str]) -> _Matches:
    """By paths, or by bare names where the folders inside differ so much that nothing would match."""
    by_path = _Matches(_twins(outputs, references, stem_key), _STEM_RULE, stem_key)
    if by_path.twins or any(len(set(map(_bare_key, names))) < len(names) for names in (outputs, references)):
        return by_path
    return _Matches(_twins(outputs, references, _bare_key), _BARE_RULE, _bare_key)


def _twins(outputs: Sequence[str], references: Sequence[str], key: Callable[[str], str]) -> dict[str, str]:
    places = {key(name): name for name in references}
    return {name: places[key(name)] for name in outputs if key(name) in places}


def _baselines(outputs: Sequence[str], baselines: Sequence[str]) -> dict[str, str]:
    """Restored pictures keep the name of what they were made from; of several, that in the most similar folders."""
    by_name: dict[str, list[str]] = {}
    for name in baselines:
        by_name.setdefault(_bare_key(name), []).append(name)
    found = {}
    for name in outputs:
        alike = sorted(by_name.get(_bare_key(name), []), key=lambda other: _likeness(other, name), reverse=True)
        if alike and (len(alike) == 1 or _likeness(alike[0], name) > _likeness(alike[1], name)):
            found[name] = alike[0]
    claims = Counter(found.values())
    return {name: source for name, source in found.items() if claims[source] == 1 or _likeness(name, source)[0]}


def _likeness(one: str, other: str) -> tuple[bool, int]:
    folders, others = one.split("/")[:-1], other.split("/")[:-1]
    return folders == others, len(set(folders) & set(others))


def _refuse_twins(names: Sequence[str], folder: Path, matches: _Matches) -> None:
    seen: dict[str, str] = {}
    for name in names:
        twin = seen.setdefault(matches.key(name), name)
        if twin is not name:
            raise _rivals(folder, twin, name, matches.rule)


def _rivals(folder: Path, one: str, other: str, rule: str) -> DataError:
    return DataError(
        f"Two pictures in {folder} have one name.",
        found=f"{one} and {other}",
        accepted=f"one picture a name (pairs: {rule})",
        fix="move one of them away, or name the data set with --set",
    )


def _strangers(out: Path, outputs: Sequence[str], ref: Path, references: Sequence[str], rule: str) -> DataError:
    return DataError(
        f"No picture in {out} has a partner in {ref}.",
        found=f"{outputs[0]}, the first of {len(outputs)}, and {references[0]}, the first of {len(references)}",
        accepted=f"pairs: {rule}",
        fix="give the two folders of one data set; where its files have two names, --set NAME",
    )

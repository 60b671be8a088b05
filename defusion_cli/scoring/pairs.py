"""Which restored picture belongs to which true one: by name, never by the order of a sorted list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from defusion_cli.data.adapters import DatasetSpec, twins_by_name
from defusion_cli.errors import DataError
from defusion_cli.images import list_images


@dataclass(frozen=True)
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

    pairs: tuple[Pair, ...]
    orphans: tuple[str, ...]
    unused: int
    rule: str


_STEM_RULE = "same path below the folder, whatever the suffix"
_BARE_RULE = "same file name, whatever the folder and suffix"


def stem_key(path: Path) -> str:
    """Path below the folder without the suffix: ``a/b.png`` and ``a/b.jpg`` belong together."""
    return path.with_suffix("").as_posix()


def _bare_key(path: Path) -> str:
    return path.stem


def pair_folders(
    out: Path, ref: Path | None, baseline: Path | None = None, data_set: DatasetSpec | None = None
) -> Pairing:
    """Pair the pictures below `out` with those below `ref` and `baseline`.

    Parameters
    ----------
    out, ref, baseline
        Folders; `ref` may be None for metrics that need no reference.
    data_set
        The set whose names decide. Without one, or where its names pair fewer, the same path without suffix does;
        folders that are arranged differently are paired by bare file names, provided these are unique.

    Raises
    ------
    DataError
        If a folder is missing or empty, no picture has a partner, or a name is ambiguous.
    """
    outputs = _listed(out)
    if ref is None:
        return Pairing(tuple(Pair(path.as_posix(), out / path) for path in outputs), (), 0, "no reference")
    references = _listed(ref)
    baselines = _listed(baseline) if baseline else []
    matches = _matches(outputs, references, out, ref, data_set)
    of_base = _baselines(outputs, baselines)
    pairs, orphans = [], []
    for path in outputs:
        twin, source = matches.twins.get(path), of_base.get(path)
        if twin is None:
            orphans.append(f"{out / path} has no partner in {ref}")
        elif baseline and source is None:
            orphans.append(f"{out / path} has no partner in {baseline}")
        else:
            pairs.append(
                Pair(path.as_posix(), out / path, ref / twin, baseline / source if baseline and source else None)
            )
    if not pairs and matches.twins and baseline:
        ref, references = baseline, baselines
    if not pairs:
        raise _strangers(out, outputs, ref, references, matches.rule)
    unused = len(set(references) - set(matches.twins.values()))
    return Pairing(tuple(pairs), tuple(orphans), unused, matches.rule)


@dataclass(frozen=True)
class _Matches:
    """True picture by restored one, and the rule; no two pictures of a folder may have one key."""

    twins: Mapping[Path, Path]
    rule: str
    key: Callable[[Path], str] = stem_key


def _listed(folder: Path) -> list[Path]:
    found = list_images(folder)
    if not found:
        raise DataError(
            f"{folder} holds no picture.", accepted="PNG, JPEG, TIFF, WebP or BMP files", fix=f"ls {folder}"
        )
    return found


def _matches(
    outputs: Sequence[Path], references: Sequence[Path], out: Path, ref: Path, data_set: DatasetSpec | None
) -> _Matches:
    stems = _by_stems(outputs, references)
    if data_set is not None:
        found = twins_by_name(data_set, outputs, references)
        # Names of a set that pairs by position meet by chance, so they count only where all of them do.
        if found.problem and len(stems.twins) < len(outputs):
            raise DataError(
                f"{out} and {ref} do not pair as {data_set.title} does, by position after sorting.",
                found=found.problem,
                accepted="all pictures of one part of the set on both sides",
            )
        if found.rivals:
            raise _rivals(ref, *found.rivals, found.rule)
        if len(found.clean) >= len(stems.twins):
            by_set = _Matches(found.clean, found.rule)
            _refuse_twins(outputs, out, by_set)
            return by_set
    for folder, paths in ((out, outputs), (ref, references)):
        _refuse_twins(paths, folder, stems)
    return stems


def _by_stems(outputs: Sequence[Path], references: Sequence[Path]) -> _Matches:
    """By paths, or by bare names where the folders inside differ so much that nothing would match."""
    key, rule = stem_key, _STEM_RULE
    if not {stem_key(path) for path in outputs} & {stem_key(path) for path in references} and all(
        len({path.stem for path in paths}) == len(paths) for paths in (outputs, references)
    ):
        key, rule = _bare_key, _BARE_RULE
    places = {key(path): path for path in references}
    twins = {path: places[key(path)] for path in outputs if key(path) in places}
    return _Matches(twins, rule, key)


def _baselines(outputs: Sequence[Path], baselines: Sequence[Path]) -> dict[Path, Path]:
    """Restored pictures keep the name of what they were made from; of several, that in the most similar folders."""
    by_name: dict[str, list[Path]] = {}
    for path in baselines:
        by_name.setdefault(path.stem, []).append(path)
    found = {}
    for path in outputs:
        alike = sorted(by_name.get(path.stem, []), key=lambda other: _likeness(other, path), reverse=True)
        if alike and (len(alike) == 1 or _likeness(alike[0], path) > _likeness(alike[1], path)):
            found[path] = alike[0]
    claims = Counter(found.values())
    return {path: source for path, source in found.items() if claims[source] == 1 or path.parent == source.parent}


def _likeness(one: Path, other: Path) -> tuple[bool, int]:
    return one.parent == other.parent, len(set(one.parts[:-1]) & set(other.parts[:-1]))


def _refuse_twins(paths: Sequence[Path], folder: Path, matches: _Matches) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        twin = seen.setdefault(matches.key(path), path)
        if twin is not path:
            raise _rivals(folder, twin, path, matches.rule)


def _rivals(folder: Path, one: Path, other: Path, rule: str) -> DataError:
    return DataError(
        f"Two pictures in {folder} have one name.",
        found=f"{one} and {other}",
        accepted=f"one picture a name (pairs: {rule})",
        fix="move one of them away, or name the data set with --set",
    )


def _strangers(out: Path, outputs: Sequence[Path], ref: Path, references: Sequence[Path], rule: str) -> DataError:
    return DataError(
        f"No picture in {out} has a partner in {ref}.",
        found=f"{outputs[0]}, the first of {len(outputs)}, and {references[0]}, the first of {len(references)}",
        accepted=f"pairs: {rule}",
        fix="give the two folders of one data set; where its files have two names, --set NAME",
    )

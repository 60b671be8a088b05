"""Which pairs are for training and which for testing: the authors' split, nine tenths by scene, or a list."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from defusion_cli.data.adapters.pairing import Found, Pair
from defusion_cli.errors import DataError, UsageError, did_you_mean

SPLITS = ("official", "seed90")
ALL = "all"


def select(found: Found, split: str = "official", part: str = "train", subsets: Sequence[str] = ()) -> list[Pair]:
    """The pairs of one side of a split.

    Parameters
    ----------
    split
        ``official``; ``seed90``, nine tenths of all pairs for training and the rest for testing, no scene on both
        sides; or the path of a list, one picture a line: those and no others, whatever `part` says.
    part
        ``train``, ``val``, ``test`` or ``all``.
    subsets
        Of those that the set has; none means the usual ones.

    Raises
    ------
    UsageError
        If there is no such subset or split.
    DataError
        If the list that tells the official parts is missing, or a list names pictures that are not there.
    """
    pairs = without_copies(_of_subsets(found, subsets))
    if split == "official":
        pairs = with_listed_parts(found, pairs)
        return [pair for pair in pairs if part in (ALL, pair.part)]
    if split == "seed90":
        held_out = seed90_scenes(found, pairs)
        return [pair for pair in pairs if part in (ALL, "test" if scene(found, pair) in held_out else "train")]
    path = Path(split).expanduser()
    if not path.is_file():
        raise UsageError("There is no such split.", found=split, accepted=f"{', '.join(SPLITS)}, or the path of a list")
    return _listed(pairs, path)


def _of_subsets(found: Found, subsets: Sequence[str]) -> list[Pair]:
    known = sorted({pair.subset for pair in found.pairs} - {""})
    for subset in subsets:
        if subset.lower() not in known:
            near = did_you_mean(subset, known)
            raise UsageError(
                f"{found.spec.title} has no subset {subset!r} in {found.tree.root}.",
                accepted=", ".join(known) or "none: leave the part after the dot out",
                fix=f"did you mean {found.spec.id}.{near}?" if near else None,
            )
    wanted = {subset.lower() for subset in subsets or found.spec.default_subsets}
    # A repack without subsets holds the usual ones.
    return [pair for pair in found.pairs if not wanted or pair.subset in wanted or (not subsets and not pair.subset)]


def without_copies(pairs: Sequence[Pair]) -> list[Pair]:
    """Each pair once, though it may lie both in the whole set and in a folder of test pictures."""
    seen: set[tuple[tuple[str, str], ...]] = set()
    kept = []
    for pair in pairs:
        key = (("", pair.part), *sorted(pair.fields.items()))
        if key not in seen:
            seen.add(key)
            kept.append(pair)
    return kept


def scene(found: Found, pair: Pair) -> tuple[str, ...]:
    """What must not be on both sides of a split."""
    return found.spec.scene(pair.fields, pair.clean.stem.lower())


def seed90_scenes(found: Found, pairs: Sequence[Pair]) -> set[tuple[str, ...]]:
    """Scenes held out by ``seed90``: as near to a tenth of the pairs as whole scenes come.

    Of all such choices, the one that prefers the scenes whose names have the smallest hashes: it depends on the names
    alone, not on the machine, the folder or the order of files. The paper's supplement names neither rule nor lists;
    its counts are those of nine tenths and one tenth.
    """
    sizes: dict[tuple[str, ...], int] = defaultdict(int)
    for pair in pairs:
        sizes[scene(found, pair)] += 1
    order = sorted(sizes, key=lambda name: hashlib.sha256("\0".join((found.spec.id, *name)).encode()).digest())
    target = (len(pairs) + 5) // 10
    limit = (1 << 2 * target + 1) - 1
    # Bit n of reached[k] is set if some of the first k scenes have n pairs together.
    reached = [1]
    for name in order:
        if reached[-1] >> target & 1:
            break
        reached.append((reached[-1] | reached[-1] << sizes[name]) & limit)
    rest = min((n for n in range(2 * target + 1) if reached[-1] >> n & 1), key=lambda n: (abs(n - target), n))
    held = set()
    for step in range(len(reached) - 1, 0, -1):
        if not reached[step - 1] >> rest & 1:
            held.add(order[step - 1])
            rest -= sizes[order[step - 1]]
    return held


def with_listed_parts(found: Found, pairs: Sequence[Pair]) -> list[Pair]:
    """`pairs` with the parts that the authors' lists give; unchanged where the names tell already."""
    if not found.spec.lists or all(pair.part for pair in pairs):
        return list(pairs)
    parts: dict[Path, str] = {}
    for part, name in found.spec.lists.items():
        for pair in _listed(pairs, _list_file(found, name), complete=False):
            parts[pair.first] = part
    return [replace(pair, part=pair.part or parts.get(pair.first, "")) for pair in pairs]


def _list_file(found: Found, name: str) -> Path:
    root = found.tree.root
    for folder in (root, *sorted(root / f for f in _ancestors(found)), root.parent):
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        f"The parts of {found.spec.title} are told by {name}, which is not there.",
        found=f"no {name} in {root} or beside it",
        fix=f"take it from the archive ({found.spec.source}) into {root}, or use the split seed90",
    )


def _ancestors(found: Found) -> set[str]:
    """Folders above the pictures."""
    return {parent for folder in found.tree.folders for parent in map(str, Path(folder).parents)}


def _listed(pairs: Sequence[Pair], path: Path, complete: bool = True) -> list[Pair]:
    """The pairs that a text file names, in its order: by the end of a path, damaged or clean, with suffix or not."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The list {path} cannot be read: {error}.") from None
    index: _Index = defaultdict(list)
    # A damaged picture is named by itself; a clean one may be the twin of many, and names them all.
    for pair in pairs:
        for file in {pair.first, pair.clean}:
            index[file.stem.lower()].append((tuple(p.lower() for p in (*file.parts[:-1], file.stem)), pair))
    chosen: dict[Path, Pair] = {}
    unknown = []
    for line in filter(None, (line.partition("#")[0].strip() for line in lines)):
        named = _named(line, index)
        chosen |= {pair.first: pair for pair in named}
        if not named:
            unknown.append(line)
    if unknown and complete:
        raise DataError(
            f"{path} names {len(unknown)} pictures that are not in the set.",
            found="; ".join(unknown[:3]),
            accepted="one picture a line: a path below the folder of the set, or just its name",
        )
    return list(chosen.values())


_Index = dict[str, list[tuple[tuple[str, ...], Pair]]]
"""Path without suffix, in lower case, and pair, by name."""


def _named(line: str, index: _Index) -> list[Pair]:
    """Pairs that a line names: as one path, or as several in columns, of which the most exact counts."""
    whole = _ending_in(line, index)
    if whole:
        return whole
    columns = [found for found in (_ending_in(word, index) for word in line.split()) if found]
    return min(columns, key=len) if columns else []


def _ending_in(text: str, index: _Index) -> list[Pair]:
    wanted = Path(text.replace("\\", "/").removeprefix("./"))
    for name in (wanted.stem, wanted.name):  # a name without suffix may contain dots, too
        tail = tuple(part.lower() for part in (*wanted.parts[:-1], name))
        found = [pair for parts, pair in index.get(name.lower(), []) if tail and parts[-len(tail) :] == tail]
        if found:
            return found
    return []

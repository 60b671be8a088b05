"""From a folder to pairs: which files a layout explains, and which two belong together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from defusion_cli.data.adapters.spec import PARTS, DatasetSpec, Fields, Layout, Rule, Template
from defusion_cli.images import list_images

_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class Pair:
    """A clean picture, and its damaged twin where the set has one.

    Attributes
    ----------
    clean, damaged
        Files.
    fields
        What the names say, damaged and clean together.
    part
        ``train``, ``val`` or ``test`` by the authors' split; empty where only a list beside the pictures tells.
    subset
        Such as ``l`` of Snow100K; often empty.
    """

    clean: Path
    damaged: Path | None
    fields: Fields
    part: str
    subset: str

    @property
    def first(self) -> Path:
        """The file that names the pair: the damaged one where there is one."""
        return self.damaged or self.clean


@dataclass
class Found:
    """What one layout of a set finds in a folder.

    Attributes
    ----------
    pairs
        In the order of their paths.
    lonely_damaged, lonely_clean
        Pictures without a twin.
    twice
        Groups of files that claim the same place; the first is used.
    broken
        Why folders do not pair by position.
    """

    spec: DatasetSpec
    layout: Layout
    tree: Tree
    pairs: list[Pair] = field(default_factory=list)
    lonely_damaged: list[Path] = field(default_factory=list)
    lonely_clean: list[Path] = field(default_factory=list)
    twice: list[tuple[Path, Path]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def files(self) -> set[Path]:
        """All files that belong to a pair."""
        return {path for pair in self.pairs for path in (pair.clean, pair.damaged) if path is not None}


class Tree:
    """The pictures below a folder, by folder; `hidden` files are treated as absent."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.folders: dict[str, list[PurePosixPath]] = defaultdict(list)
        for path in list_images(self.root):
            self.folders[path.parent.as_posix()].append(PurePosixPath(path.name))
        self.hidden: set[Path] = set()

    def __len__(self) -> int:
        return sum(map(len, self.folders.values()))

    def where(self, folder: str) -> PurePosixPath:
        """A folder's whole path: what lies above the root tells, too, which set this is."""
        return PurePosixPath(self.root.as_posix()) / folder

    def match(self, template: Template, layout: Layout, *, hinted: bool) -> list[tuple[str, Fields, Path]]:
        """Files that fit `template`: what precedes its folders, its fields, the path."""
        found: list[tuple[str, Fields, Path]] = []
        for folder, names in self.folders.items():
            whole = self.where(folder)
            if not _applies(layout, whole, hinted):
                continue
            start = len(whole.parts) - template.depth
            before, cut = str(PurePosixPath(*whole.parts[:start])), "/".join(whole.parts[start:])
            if layout.from_root:
                before, cut = "", folder
            of_folder = template.match_folder(cut)
            if of_folder is None:
                continue
            for name in names:
                of_name = template.match_name(name.stem)
                path = self.root / folder / name
                if of_name is not None and path not in self.hidden:
                    found.append((before, {**of_folder, **of_name}, path))
        return found


def _applies(layout: Layout, whole: PurePosixPath, hinted: bool) -> bool:
    text = whole.as_posix() + "/"
    if layout.avoid and re.search(layout.avoid, text, re.IGNORECASE):
        return False
    return hinted or not layout.hint or bool(re.search(layout.hint, text, re.IGNORECASE))


def find(spec: DatasetSpec, tree: Tree, *, named: bool) -> Found:
    """The pairs of `spec` below a folder, by the layout that explains most of it.

    Parameters
    ----------
    named
        True if the user said that it is this set; layouts that many sets share are believed then.
    """
    attempts = [_try(spec, layout, tree, named) for layout in spec.layouts]
    return max(attempts, key=lambda found: (len(found.pairs), len(found.lonely_damaged) + len(found.lonely_clean)))


def _try(spec: DatasetSpec, layout: Layout, tree: Tree, named: bool) -> Found:
    found = Found(spec, layout, tree)
    for rule in layout.rules:
        damaged_template, clean_template = rule.templates
        clean = tree.match(clean_template, layout, hinted=named)
        if damaged_template is None:
            found.pairs += [_pair(spec, rule, None, {}, path, fields) for _, fields, path in clean]
            continue
        damaged = tree.match(damaged_template, layout, hinted=named)
        shared = [name for name in damaged_template.fields if name in clean_template.fields]
        # In a folder that holds a set twice, each copy pairs within itself.
        nested = damaged_template.depth == clean_template.depth
        pair = _by_position if layout.position_gap else _by_key
        pair(found, rule, _keyed(damaged, shared, nested), _keyed(clean, shared, nested))
    found.pairs.sort(key=lambda p: p.first.as_posix())
    return found


_Key = tuple[str, ...]
_Files = Sequence[tuple[_Key, Fields, Path]]


def _keyed(matches: Iterable[tuple[str, Fields, Path]], shared: Sequence[str], nested: bool) -> _Files:
    keyed = [((before if nested else "", *(f[name] for name in shared)), f, path) for before, f, path in matches]
    return sorted(keyed, key=lambda item: item[2].as_posix())


def _by_key(found: Found, rule: Rule, damaged: _Files, clean: _Files) -> None:
    twins: dict[_Key, tuple[Fields, Path]] = {}
    for key, fields, path in clean:
        if key in twins:
            found.twice.append((twins[key][1], path))
        else:
            twins[key] = fields, path
    used: set[_Key] = set()
    seen: dict[tuple[_Key, Fields | tuple[tuple[str, str], ...]], Path] = {}
    for key, fields, path in damaged:
        if key not in twins:
            found.lonely_damaged.append(path)
            continue
        same = seen.setdefault((key, tuple(sorted(fields.items()))), path)
        if same != path:
            found.twice.append((same, path))
            continue
        used.add(key)
        clean_fields, twin = twins[key]
        found.pairs.append(_pair(found.spec, rule, path, fields, twin, clean_fields))
    found.lonely_clean += [path for key, (_, path) in twins.items() if key not in used]


def _by_position(found: Found, rule: Rule, damaged: _Files, clean: _Files) -> None:
    sides: list[dict[tuple[_Key, Path], list[tuple[Fields, Path]]]] = [defaultdict(list), defaultdict(list)]
    for side, files in zip(sides, (damaged, clean), strict=True):
        for key, values, path in files:
            side[key, path.parent].append((values, path))
    twins = {key: (folder, pictures) for (key, folder), pictures in sides[1].items()}
    for (key, folder), pictures in sides[0].items():
        if key not in twins:
            found.lonely_damaged += [path for _, path in pictures]
            continue
        opposite, others = twins[key]
        problem = _position_problem(folder, pictures, opposite, others, found.layout.position_gap)
        if problem:
            found.broken.append(problem)
            continue
        couples = zip(pictures, others, strict=True)
        found.pairs += [_pair(found.spec, rule, d, fields, c, twin_fields) for (fields, d), (twin_fields, c) in couples]
    met = {key for key, _ in sides[0]}
    found.lonely_clean += [path for (key, _), alone in sides[1].items() if key not in met for _, path in alone]


_Numbered = Sequence[tuple[Fields, Path]]


def _position_problem(folder: Path, files: _Numbered, opposite: Path, others: _Numbered, gap: int) -> str:
    """Why two folders cannot be paired by position; empty if they can."""
    if len(files) != len(others):
        more, fewer = sorted((files, others), key=len, reverse=True)
        met = [within(one.stem, other.stem, gap) for (_, one), (_, other) in zip(more, fewer, strict=False)]
        alone = more[met.index(False) if False in met else len(fewer)][1]
        return f"{folder} holds {len(files)} pictures and {opposite} {len(others)}: {alone.name} has no twin"
    for (_, damaged), (_, clean) in zip(files, others, strict=True):
        if not within(damaged.stem, clean.stem, gap):
            return f"{damaged.name} in {folder} would pair with {clean.name}: a file before it is missing"
    return ""


def within(one: str, other: str, gap: int) -> bool:
    """Whether the last numbers in two names differ by no more than `gap`; True where a name has none."""
    numbers = [_DIGITS.findall(name) for name in (one, other)]
    return not (numbers[0] and numbers[1]) or abs(int(numbers[0][-1]) - int(numbers[1][-1])) <= gap


def _pair(
    spec: DatasetSpec, rule: Rule, damaged: Path | None, fields: Fields, clean: Path, clean_fields: Fields
) -> Pair:
    both: Mapping[str, str] = {**clean_fields, **fields}
    part = rule.part or PARTS.get(both.get("split", ""), "")
    if spec.part_of is not None:
        part = spec.part_of(both)
    return Pair(clean, damaged, both, part, both.get("subset", ""))

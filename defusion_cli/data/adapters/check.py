"""Comparing a folder with what a data set should be, and saying what to do where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image as PilImage

from defusion_cli.data.adapters.advice import advise, layouts_text
from defusion_cli.data.adapters.overlap import same_pictures
from defusion_cli.data.adapters.pairing import Found, Tree, find
from defusion_cli.data.adapters.registry import DATASETS, drop_scenes
from defusion_cli.data.adapters.spec import DatasetSpec
from defusion_cli.data.adapters.splits import ALL, select, with_listed_parts, without_copies
from defusion_cli.errors import DataError, DefusionError
from defusion_cli.images import READABLE

Watch = Callable[[int], None]


@dataclass(frozen=True)
class Row:
    """A count beside what it should be; None where nobody says."""

    name: str
    pairs: int
    official: int | None
    supplement: int | None


@dataclass
class Report:
    """What is known of one set in one folder.

    Attributes
    ----------
    problems
        What is wrong with the files: training would stop, or be wrong.
    advice
        What to rename or download.
    remarks
        What else one should know, overlaps among it.
    """

    spec: DatasetSpec
    folder: Path
    layout: str
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True if nothing is wrong and the counts are the official ones."""
        return not self.problems and all(row.official in (None, row.pairs) for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "set": self.spec.id,
            "folder": str(self.folder),
            "layout": self.layout,
            "complete": self.complete,
            "counts": [vars(row) for row in self.rows],
            "problems": self.problems,
            "advice": self.advice,
            "remarks": self.remarks,
        }


def check(
    folder: Path, spec: DatasetSpec | None = None, split: str = "official", watch: Watch | None = None
) -> list[Report]:
    """Reports on the sets that a folder holds.

    Parameters
    ----------
    spec
        The set that it should be; None means that it is to be recognised.
    split
        As for `select`; the counts are those of its parts.
    watch
        Called now and then with the number of pairs whose sizes were compared; None leaves the sizes unread.

    Raises
    ------
    DataError
        If the folder is missing or empty, or no set is recognised.
    """
    tree = Tree(folder)
    if not len(tree):
        raise DataError(f"There are no pictures in {folder}.", accepted=f"a folder of {READABLE} files")
    found = [find(spec, tree, named=True)] if spec else recognise(tree)
    if not found:
        raise DataError(
            f"No data set is recognised in {folder}.",
            found=f"{len(tree)} pictures in {_some_folders(tree)}",
            accepted="defusion data list shows the layouts",
            fix=f"defusion data check --set NAME {folder}, which says what differs",
        )
    reports = [_report(item, split, watch) for item in found]
    _add_up(reports, split)
    return reports


def _add_up(reports: Sequence[Report], split: str) -> None:
    """Sets that the supplement counts together: the sums, where all of them are here."""
    for family in {report.spec.family for report in reports} - {""}:
        members = [report for report in reports if report.spec.family == family]
        theirs = members[0].spec.family_supplement
        if split != members[0].spec.supplement_split:
            continue
        if {m.spec.id for m in members} == {spec.id for spec in DATASETS.values() if spec.family == family}:
            sums = Counter[str]()
            for member in members:
                sums.update({row.name: row.pairs for row in member.rows})
            counts = ", ".join(f"{part} {sums[part]} (supplement {count})" for part, count in theirs.items())
            members[-1].remarks.insert(0, f"{family} together: {counts}")


def recognise(tree: Tree) -> list[Found]:
    """The sets in a folder: those that explain files which no other set explains better."""
    attempts = [find(spec, tree, named=False) for spec in DATASETS.values()]
    # The more folders a layout prescribes, the surer its verdict; then the larger number.
    attempts.sort(key=lambda f: (not f.layout.from_root, _depth(f), len(f.pairs)), reverse=True)
    kept: list[Found] = []
    for attempt in attempts:
        taken = set().union(*(found.files for found in kept))
        if attempt.pairs and len([p for p in attempt.pairs if p.first not in taken]) > len(attempt.pairs) / 2:
            kept.append(attempt)
    return kept


def _depth(found: Found) -> int:
    return max(template.depth for rule in found.layout.rules for template in rule.templates if template)


def _some_folders(tree: Tree) -> str:
    names = sorted(tree.folders)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more folders" if len(names) > 4 else "")


def _report(found: Found, split: str, watch: Watch | None) -> Report:
    spec, root = found.spec, found.tree.root
    report = Report(spec, root, found.layout.name)
    report.problems += found.broken
    if not found.pairs and not found.broken:
        report.problems.append(f"Nothing in {root} pairs up as {spec.title}.")
        report.advice += [f"Accepted: {text}" for text in layouts_text(spec)]
    report.problems += _orphans("without a clean twin", found.lonely_damaged, root)
    # RainDS has subsets of unequal size, and archives hold clean pictures for all; that harms nobody.
    if found.lonely_clean:
        report.remarks += _orphans("that are clean and that no damaged one belongs to", found.lonely_clean, root)
    for first, second in found.twice[:3]:
        report.problems.append(
            f"{_short(first, root)} and {_short(second, root)} claim the same place; the first is used"
        )
    if watch is not None:
        report.problems += _size_problems(found, watch)
    try:
        report.rows = _rows(found, split)
    except DefusionError as error:
        report.problems.append(error.failed)
        report.advice += [error.fix] if error.fix else []
    report.advice += advise(found) + _missing(report)
    if watch is not None:
        report.remarks += _nested(found)
    report.remarks += [*_of_another_split(spec, split), *_overlaps(found), *spec.overlaps, *spec.notes]
    return report


def _of_another_split(spec: DatasetSpec, split: str) -> list[str]:
    """The supplement's figures, where it divides the set in another way than was asked for."""
    if not spec.supplement or split == spec.supplement_split:
        return []
    figures = ", ".join(f"{part} {count}" for part, count in spec.supplement.items())
    return [f"the supplement has {figures}: --split {spec.supplement_split} counts as it does"]


def _orphans(what: str, paths: Sequence[Path], root: Path) -> list[str]:
    if not paths:
        return []
    named = ", ".join(_short(path, root) for path in paths[:3])
    return [f"{len(paths)} picture{'s' * (len(paths) > 1)} {what}: {named}{' …' * (len(paths) > 3)}"]


def _short(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _rows(found: Found, split: str) -> list[Row]:
    spec = found.spec
    counted = _count(found, split)
    mine = spec.official if split == "official" else {}
    theirs = spec.supplement if split == spec.supplement_split else {}
    names = [*dict.fromkeys([*counted, *mine, *theirs])]
    order = {"train": 0, "val": 1, "test": 2, ALL: 3}
    names.sort(key=lambda name: (order.get(name.partition("/")[0], 4), name))
    return [Row(name, counted.get(name, 0), mine.get(name), theirs.get(name)) for name in names]


def _count(found: Found, split: str) -> dict[str, int]:
    """Pairs by part, by part and subset, and in all; subsets beyond the usual ones are counted, but not added up."""
    counts: Counter[str] = Counter()
    if split not in ("official", "seed90"):
        return {"listed": len(select(found, split))}
    for part in ("train", "val", "test"):
        chosen = select(found, split, part)
        if chosen:
            counts[part] = len(chosen)
    counts[ALL] = len(select(found, split, ALL))
    if split == "official":
        for pair in with_listed_parts(found, without_copies(found.pairs)):
            if pair.subset and pair.part:
                counts[f"{pair.part}/{pair.subset}"] += 1
    return dict(counts)


def _missing(report: Report) -> list[str]:
    """Parts that are absent or incomplete, and where they come from."""
    where = f" ({report.spec.source})" if report.spec.source else ""
    lines = []
    for row in report.rows:
        if not row.official or row.pairs == row.official:
            continue
        if not row.pairs:
            lines.append(f"{row.name} is missing: {row.official} pairs to download{where}")
        elif row.pairs < row.official:
            short = row.official - row.pairs
            lines.append(
                f"{row.name} has {row.pairs} of {row.official} pairs: unpack its archive again, {short} are missing"
            )
        else:
            lines.append(
                f"{row.name} has {row.pairs} pairs where {row.official} are known: another release, or copies?"
            )
    return lines


def _overlaps(found: Found) -> list[str]:
    """Scenes that this set shares with the one it must not be trained with, counted where both are here."""
    if not found.spec.drop_scenes_of:
        return []
    left = drop_scenes(found, list(found.pairs), None)
    if len(left) == len(found.pairs):
        return []
    other = DATASETS[found.spec.drop_scenes_of].title
    return [
        f"{len(found.pairs) - len(left)} pairs show scenes of {other}, which is here, too; training leaves them out"
    ]


def _nested(found: Found) -> list[str]:
    """How much of one subset is in the other, by the clean pictures themselves."""
    if found.spec.nested_subsets is None:
        return []
    names = found.spec.nested_subsets
    sides = [sorted({pair.clean for pair in found.pairs if pair.subset == name}) for name in names]
    if not all(sides):
        return []
    same = same_pictures(*sides)
    text = f"{len(same)} of the {len(sides[0])} pictures of {found.spec.id}.{names[0]} are in .{names[1]}, too"
    example = f": {_short(same[0][0], found.tree.root)} is {_short(same[0][1], found.tree.root)}" if same else ""
    return [f"{text}{example}"]


def _size_problems(found: Found, watch: Watch) -> list[str]:
    """Pairs of unequal size and files that cannot be read, from the files' headers."""
    sizes: dict[Path, tuple[int, int] | None] = {}
    unequal: list[Path] = []
    for number, pair in enumerate(found.pairs, 1):
        for path in (pair.clean, pair.damaged):
            if path is not None and path not in sizes:
                sizes[path] = _size(path)
        clean, damaged = sizes[pair.clean], sizes[pair.first]
        if clean and damaged and not _fits(damaged, clean, found.spec.centre_crop):
            unequal.append(pair.first)
        if number % 64 == 0 or number == len(found.pairs):
            watch(number)
    broken = [path for path, size in sizes.items() if size is None]
    root = found.tree.root
    return _orphans("that cannot be read", broken, root) + _orphans(
        "of another size than their clean twins", unequal, root
    )


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with PilImage.open(path) as image:
            return image.size
    except (OSError, ValueError, PilImage.DecompressionBombError):
        return None


def _fits(damaged: tuple[int, int], clean: tuple[int, int], centre_crop: bool) -> bool:
    return damaged == clean or (centre_crop and clean[0] >= damaged[0] and clean[1] >= damaged[1])

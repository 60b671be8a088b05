"""What to rename so that a folder becomes the set that it almost is."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

from defusion_cli.data.adapters.pairing import Found, Tree
from defusion_cli.data.adapters.spec import DatasetSpec, Rule, Template

_ENOUGH = 0.5
"""Share of the names looked for that a folder must hold to be taken for the one that is meant."""


def layouts_text(spec: DatasetSpec) -> list[str]:
    """The layouts of a set, as a person reads them."""
    lines = []
    for layout in spec.layouts:
        rules = "; ".join(_rule_text(rule) for rule in layout.rules)
        lines.append(f"{layout.name}: {rules}")
    return lines


def _rule_text(rule: Rule) -> str:
    damaged, clean = rule.templates
    return f"{damaged} with {clean}" if damaged else str(clean)


def advise(found: Found) -> list[str]:
    """Commands that would bring the missing side of lonely pictures to where it belongs, as far as they are here."""
    lines = []
    for rule in found.layout.rules:
        damaged, clean = rule.templates
        if damaged is None:
            continue
        if found.lonely_damaged:
            lines += _look_for(found, set(found.lonely_damaged), damaged, clean)
        if found.lonely_clean:
            lines += _look_for(found, set(found.lonely_clean), clean, damaged)
    return list(dict.fromkeys(lines))


def _look_for(found: Found, lonely: set[Path], mine: Template, other: Template) -> list[str]:
    """For pictures that fit `mine`: where their twins by `other` are expected, and where they seem to be."""
    tree, expected = found.tree, defaultdict(set)
    for before, fields, path in tree.match(mine, found.layout, hinted=True):
        if path in lonely:
            place = PurePosixPath(before) / other.fill(fields)
            expected[place.parent].add((place.name, path))
    lines = []
    there = {_lower(tree.where(folder)) for folder in tree.folders}
    for folder, wanted in sorted(expected.items()):
        if found.layout.from_root or _lower(folder) in there:
            continue
        source = _lookalike(tree, folder, wanted, found, fields_known="<" not in "".join(n for n, _ in wanted))
        target = _relative(folder, tree)
        if source:
            lines.append(f'rename: mv "{tree.root / source}" "{(tree.root / source).with_name(folder.name)}"')
        else:
            name, path = min(wanted)
            lines.append(f"expected beside {path.relative_to(tree.root)}: a picture {target}/{name}")
    return lines[:4]


def _relative(folder: PurePosixPath, tree: Tree) -> str:
    root = tree.root.as_posix().strip("/")
    return folder.as_posix().strip("/").removeprefix(root).strip("/") or "."


def _lower(path: PurePosixPath) -> str:
    # Fields are known in lower case only.
    return path.as_posix().lower()


def _lookalike(
    tree: Tree, target: PurePosixPath, wanted: set[tuple[str, Path]], found: Found, *, fields_known: bool
) -> str | None:
    """A folder beside the expected one that holds most of the expected names, or names as many as they are."""
    own = {path.parent for _, path in wanted}
    used = {path.parent for path in found.files}
    names = {name.lower() for name, _ in wanted}
    scores: Counter[str] = Counter()
    for folder, files in tree.folders.items():
        if tree.root / folder in own | used or _lower(tree.where(folder).parent) != _lower(target.parent):
            continue
        hits = len(names & {file.stem.lower() for file in files}) if fields_known else min(len(files), len(names))
        if hits >= _ENOUGH * len(names):
            scores[folder] = hits
    return scores.most_common(1)[0][0] if scores else None

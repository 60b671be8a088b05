"""All data sets by id, and loading one of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from defusion_cli.data.adapters import blur, others, rain, weather
from defusion_cli.data.adapters.pairing import Found, Pair, Tree, find
from defusion_cli.data.adapters.spec import DatasetSpec
from defusion_cli.data.adapters.splits import ALL, select
from defusion_cli.errors import DataError, UsageError, did_you_mean

DATASETS: dict[str, DatasetSpec] = {spec.id: spec for module in (blur, weather, rain, others) for spec in module.SPECS}
"""By id, in the order of the supplement."""


def dataset(name: str) -> DatasetSpec:
    """The description of a set.

    Raises
    ------
    UsageError
        If there is none of that name; the nearest is offered.
    """
    spec = DATASETS.get(name.lower())
    if spec is None:
        near = did_you_mean(name, DATASETS)
        raise UsageError(
            "There is no such data set.",
            found=name,
            accepted=", ".join(DATASETS),
            fix=f"did you mean {near}?" if near else "defusion data list",
        )
    return spec


@dataclass(frozen=True)
class Selection:
    """A set, the subset of it, and the split: ``snow100k.l@seed90``."""

    spec: DatasetSpec
    subsets: tuple[str, ...] = ()
    split: str = "official"


def parse_selection(text: str) -> Selection | None:
    """``SET[.SUBSET][@SPLIT]``, or None if it does not begin with the id of a set."""
    name, _, split = text.partition("@")
    set_id, _, subset = name.partition(".")
    spec = DATASETS.get(set_id.lower())
    return Selection(spec, (subset,) if subset else (), split or "official") if spec else None


def load(
    selection: Selection, folder: Path, part: str = "train", exclude: Path | None = None
) -> tuple[Found, list[Pair]]:
    """The pairs of a set in `folder`, and all that was found there.

    Parameters
    ----------
    part
        ``train``, ``val``, ``test`` or ``all``.
    exclude
        A folder with the set whose scenes must not be among them (`DatasetSpec.drop_scenes_of`); the set is looked
        for in `folder`, too.

    Raises
    ------
    DataError
        If the folder is missing, does not hold the set, or holds nothing of the wanted part.
    UsageError
        If there is no such subset or split.
    """
    spec = selection.spec
    found = find(spec, Tree(folder), named=True)
    if found.broken:
        raise DataError(
            f"{spec.title} in {folder} does not pair up.", found=found.broken[0], fix=_check_hint(spec, folder)
        )
    if not found.pairs:
        raise DataError(
            f"{folder} does not hold {spec.title}.",
            found=f"{len(found.tree)} pictures, none of which fits",
            accepted="; or ".join(layout.name for layout in spec.layouts),
            fix=_check_hint(spec, folder),
        )
    pairs = drop_scenes(found, select(found, selection.split, part, selection.subsets), exclude)
    if not pairs:
        there = sorted({pair.part for pair in select(found, selection.split, ALL, selection.subsets)} - {""})
        name = ".".join((spec.title, *selection.subsets))
        raise DataError(
            f"{folder} holds no pictures of {name} for {part}.",
            found=f"parts {', '.join(there)}" if there else "no part that is named",
            fix=_check_hint(spec, folder),
        )
    return found, pairs


def _check_hint(spec: DatasetSpec, folder: Path) -> str:
    return f"defusion data check --set {spec.id} {folder}"


def drop_scenes(found: Found, pairs: list[Pair], exclude: Path | None) -> list[Pair]:
    """`pairs` without those whose scene is in the set that must not be trained on, as far as that set is at hand."""
    if not found.spec.drop_scenes_of:
        return pairs
    other = DATASETS[found.spec.drop_scenes_of]
    scenes: set[str] = set()
    for tree in (found.tree, *([Tree(exclude)] if exclude else [])):
        scenes |= {pair.fields["id"] for pair in find(other, tree, named=True).pairs}
    if exclude and not scenes:
        raise DataError(
            f"{exclude} does not hold {other.title}.", fix=f"defusion data check --set {other.id} {exclude}"
        )
    return [pair for pair in pairs if pair.fields["id"] not in scenes]

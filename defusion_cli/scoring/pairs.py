"""Which restored picture belongs to which true one: by name, never by the order of a sorted list."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from defusion_cli.errors import DataError
from defusion_cli.images import list_images

Key = Callable[[Path], str]
"""From a path relative to its folder to what a pair has in common."""


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


@dataclass(frozen=True)
class Naming:
    """How a data set names the two pictures of a pair.

    Attributes
    ----------
    key
        The same for both pictures of a pair.
    rule
        `key` in words.
    shared
        True if several degraded pictures have one true picture.
    """

    key: Key
    rule: str
    shared: bool = False


def stem_key(path: Path) -> str:
    """Path below the folder without the suffix: ``a/b.png`` and ``a/b.jpg`` belong together."""
    return path.with_suffix("").as_posix()


def _replaced(pattern: str, by: str = "") -> Key:
    """The stem with `pattern` replaced; case does not matter."""
    compiled = re.compile(pattern, re.IGNORECASE)
    return lambda path: (path.parent / compiled.sub(by, path.stem)).as_posix()


STEM = Naming(stem_key, "same path below the folder, whatever the suffix")
_BARE_STEM = Naming(lambda path: path.stem, "same file name, whatever the folder and suffix")


def _id_naming(what: str) -> Naming:
    return Naming(_replaced(r"_.*$"), f"{what}: what precedes the first underscore", shared=True)


NAMINGS = {
    "realblur-j": Naming(_replaced(r"^(blur|gt)_"), "RealBlur: same scene, blur_K and gt_K"),
    "realblur-r": Naming(_replaced(r"^(blur|gt)_"), "RealBlur: same scene, blur_K and gt_K"),
    "sots-indoor": _id_naming("SOTS"),
    "sots-outdoor": _id_naming("SOTS"),
    "dense-haze": Naming(_replaced(r"_(hazy|gt)$"), "Dense-Haze: NN_hazy and NN_GT"),
    "raindrop": Naming(_replaced(r"_(rain|clean)$"), "RainDrop: ID_rain and ID_clean"),
    "rain1400": Naming(_replaced(r"_\d+$"), "Rain1400: N_k and N", shared=True),
    "outdoor-rain": Naming(
        _replaced(r"^(im_\d{4}).*$", r"\1"), "Outdoor-Rain: the first seven characters", shared=True
    ),
    "sidd": Naming(_replaced(r"NOISY", "GT"), "SIDD: NOISY and GT"),
}
"""Data sets whose two pictures have different names; all others go by `STEM`."""


def pair_folders(out: Path, ref: Path | None, baseline: Path | None = None, naming: Naming = STEM) -> Pairing:
    """Pair the pictures below `out` with those below `ref` and `baseline`.

    Parameters
    ----------
    out, ref, baseline
        Folders; `ref` may be None for metrics that need no reference.
    naming
        How pairs are recognised. With `STEM`, folders that are arranged differently are paired by bare file names,
        provided these are unique.

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
    naming = _arranged(naming, outputs, references)
    if not naming.shared:
        _refuse_twins(outputs, out, naming)
    by_key = _by_key(references, ref, naming)
    base_by_key = {_baseline_key(naming, path): path for path in baselines}
    pairs, orphans = [], []
    for path in outputs:
        key, source = naming.key(path), base_by_key.get(_baseline_key(naming, path))
        if key not in by_key:
            orphans.append(f"{out / path} has no partner in {ref}")
        elif baseline and source is None:
            orphans.append(f"{out / path} has no partner in {baseline}")
        else:
            pairs.append(
                Pair(path.as_posix(), out / path, ref / by_key[key], baseline / source if baseline and source else None)
            )
    if not pairs:
        raise _strangers(out, outputs, ref, references, naming)
    used = {naming.key(path) for path in outputs}
    return Pairing(tuple(pairs), tuple(orphans), len(set(by_key) - used), naming.rule)


def _listed(folder: Path) -> list[Path]:
    found = list_images(folder)
    if not found:
        raise DataError(
            f"{folder} holds no picture.", accepted="PNG, JPEG, TIFF, WebP or BMP files", fix=f"ls {folder}"
        )
    return found


def _arranged(naming: Naming, outputs: Sequence[Path], references: Sequence[Path]) -> Naming:
    """`STEM`, or bare stems where the folders inside differ so much that nothing would match."""
    if naming is not STEM or {stem_key(path) for path in outputs} & {stem_key(path) for path in references}:
        return naming
    unique = all(len({path.stem for path in paths}) == len(paths) for paths in (outputs, references))
    return _BARE_STEM if unique else naming


def _baseline_key(naming: Naming, path: Path) -> str:
    """Restored pictures keep the name of what they were made from; only where one true picture is shared it counts."""
    return stem_key(path) if naming.shared else naming.key(path)


def _by_key(paths: Sequence[Path], folder: Path, naming: Naming) -> dict[str, Path]:
    _refuse_twins(paths, folder, naming)
    return {naming.key(path): path for path in paths}


def _refuse_twins(paths: Sequence[Path], folder: Path, naming: Naming) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        twin = seen.setdefault(naming.key(path), path)
        if twin is not path:
            raise DataError(
                f"Two pictures in {folder} have one name.",
                found=f"{twin} and {path}",
                accepted=f"one picture a name (pairs: {naming.rule})",
                fix="move one of them away, or name the data set with --set",
            )


def _strangers(out: Path, outputs: Sequence[Path], ref: Path, references: Sequence[Path], naming: Naming) -> DataError:
    return DataError(
        f"No picture in {out} has a partner in {ref}.",
        found=f"{outputs[0]} ({len(outputs)} pictures) and {references[0]} ({len(references)} pictures)",
        accepted=f"pairs with the {naming.rule}",
        fix="give the two folders of one data set; where its files have two names, --set NAME",
    )

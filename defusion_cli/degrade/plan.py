"""Which pictures are damaged how, and where they go; decided before the first one is read."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from defusion_cli.degrade.manifest import Entry, entry_at, read_manifest, resolve_inside
from defusion_cli.errors import DataError, UsageError
from defusion_cli.images import FORMATS, list_images
from defusion_cli.plugins import Recipe, draw_recipe, physical_order, replace_params
from defusion_cli.plugins.compose import Plugins

ORDERS = ("given", "physical", "all")
"""As asked for; as light meets them; every permutation of the same realisations."""

_MAX_PERMUTED = 5
_LOSSLESS = (".png", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Damage:
    """What is to be done to every picture.

    Attributes
    ----------
    ids
        Plugins, in order of application.
    severity
        In [0, 1] for all of them; None lets every picture and plugin draw its own.
    overrides
        Parameters to force, by plugin id.
    seed
        With the picture's name and the variant's number it decides everything that is drawn.
    variants
        How many times each picture is damaged, independently.
    orders
        One of `ORDERS`.
    """

    ids: tuple[str, ...]
    severity: float | None = None
    overrides: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    seed: int = 0
    variants: int = 1
    orders: str = "given"


@dataclass(frozen=True)
class Item:
    """One picture to write.

    Attributes
    ----------
    output
        Its name below the output folder, with forward slashes.
    recipe
        How it is made.
    expected
        The manifest's entry that it has to reproduce, if there is one.
    """

    output: str
    recipe: Recipe
    expected: Entry | None = None


@dataclass(frozen=True)
class Task:
    """All that is made of one picture, so that it is read once."""

    source: Path
    name: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that is to be done, as an iterable of tasks.

    A task is made when its turn comes: a folder may hold very many pictures, and each has a recipe of its own.

    Attributes
    ----------
    names
        Of the pictures that are read.
    make
        The task for the picture with a name.
    pictures
        How many are written.
    """

    names: Sequence[str]
    make: Callable[[str], Task]
    pictures: int

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Task]:
        return map(self.make, self.names)


def plan_folder(source: Path, out: Path, damage: Damage, plugins: Plugins) -> Plan:
    """Tasks for all pictures below `source`, or for the one picture it is.

    Pictures keep their relative names; those of lossy formats become PNG, since compressing them once more would
    be a damage nobody asked for. Variants add ``_v1``, ``_v2`` … to the name; with ``orders="all"`` each order has
    a folder of its own, named like ``rain+snow``.

    Raises
    ------
    DataError
        If there are no pictures.
    UsageError
        If plugins or parameters are unknown, or an output would overwrite an input or another output.
    """
    _check_damage(damage, plugins)
    root, names = _pictures(source, out)
    contested = _contested(names)

    def make(name: str) -> Task:
        drawn = draw_recipes(damage, plugins, name)
        items = (Item(_output_name(name, contested, damage, variant, recipe.ids), recipe) for variant, recipe in drawn)
        return Task(root / name, name, tuple(items))

    kinds = [(variant, recipe.ids) for variant, recipe in draw_recipes(damage, plugins, names[0])]
    origin: dict[str, str] = {}
    for name in names:
        for variant, ids in kinds:
            output = _output_name(name, contested, damage, variant, ids)
            if origin.setdefault(output, name) != name:
                raise UsageError(f"{origin[output]} and {name} would both become {output}.", fix=f"rename {name}")
    _refuse_overlap((root / name for name in names), origin, out)
    return Plan(names, make, len(origin))


def _refuse_control_characters(name: str, manifest: Path) -> None:
    """A file of one's own may be called so; a stranger's manifest shall not write on the terminal."""
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise DataError(
            f"{manifest} has a name with control characters.", found=repr(name)[:120], accepted="names that can be read"
        )


def plan_manifest(manifest: Path, source: Path, out: Path, plugins: Plugins) -> Plan:
    """Tasks that make again what `manifest` lists, from the pictures in `source`.

    Raises
    ------
    DataError
        If the manifest is damaged, leads out of the two folders, or was made by other versions of the plugins.
    """
    places: dict[str, list[int]] = {}
    outputs: list[str] = []
    for place, entry in read_manifest(manifest):
        _refuse_control_characters(entry.source, manifest)
        _refuse_control_characters(entry.output, manifest)
        if PurePosixPath(entry.output).suffix.lower() not in FORMATS:
            raise DataError(f"{manifest} names an output that is no picture.", found=entry.output[:120])
        if not source.is_dir():
            raise DataError(f"{source} is not a folder.", accepted="the folder with the pictures of the manifest")
        resolve_inside(source, entry.source)
        resolve_inside(out, entry.output)
        Recipe.from_json(entry.recipe, plugins)
        places.setdefault(entry.source, []).append(place)
        outputs.append(entry.output)
    if not places:
        raise DataError(f"The manifest {manifest} lists no pictures.")
    _refuse_overlap((source / name for name in places), outputs, out)

    def make(name: str) -> Task:
        entries = [entry_at(manifest, place) for place in places[name]]
        items = (Item(entry.output, Recipe.from_json(entry.recipe, plugins), entry) for entry in entries)
        return Task(source / name, name, tuple(items))

    return Plan(list(places), make, len(outputs))


def plan_preview(damage: Damage, plugins: Plugins) -> list[Recipe]:
    """The recipes that a preview of `damage` shows; errors as for `plan_folder`."""
    _check_damage(damage, plugins)
    return [recipe for _, recipe in draw_recipes(damage, plugins, "preview")]


def draw_recipes(damage: Damage, plugins: Plugins, name: str) -> list[tuple[int, Recipe]]:
    """Variant number and recipe of every picture made from the one called `name`.

    Nothing depends on other pictures, or on the order in which they are handled.
    """
    ids = physical_order(damage.ids, plugins) if damage.orders == "physical" else list(damage.ids)
    found = []
    for variant in range(1, damage.variants + 1):
        rng = np.random.default_rng(_picture_seed(damage.seed, name, variant))
        recipe = draw_recipe(ids, plugins, rng, damage.severity, damage.overrides)
        # Through JSON and back: what is applied is exactly what the manifest will hold.
        recipe = Recipe.from_json(recipe.to_json(), plugins)
        found += [(variant, order) for order in (recipe.orders() if damage.orders == "all" else [recipe])]
    return found


def _picture_seed(seed: int, name: str, variant: int) -> int:
    # NFC: the same file name has different bytes on different file systems.
    text = "\0".join([str(seed), unicodedata.normalize("NFC", name), str(variant)])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "big")


def _check_damage(damage: Damage, plugins: Plugins) -> None:
    if not damage.ids:
        raise UsageError("No degradation was named.", fix="defusion degrade --plugin snow …, or --list to see them all")
    for plugin_id in damage.ids:
        plugins[plugin_id]  # raises with a suggestion
    for plugin_id, values in damage.overrides.items():
        if plugin_id not in damage.ids:
            named = ", ".join(damage.ids)
            raise UsageError(f"--set {plugin_id}.… sets a plugin that is not used.", found=plugin_id, accepted=named)
        replace_params(plugins[plugin_id].neutral(), values, plugin_id)
    if damage.orders == "all" and len(set(damage.ids)) < len(damage.ids):
        raise UsageError("--orders all takes each plugin once.", found=", ".join(damage.ids))
    if damage.orders == "all" and len(damage.ids) > _MAX_PERMUTED:
        found = f"{len(damage.ids)} plugins"
        raise UsageError("That is too many orders.", found=found, accepted=f"up to {_MAX_PERMUTED} with --orders all")


def _pictures(source: Path, out: Path) -> tuple[Path, list[str]]:
    """The folder that names are relative to, and the names; outputs of an earlier run are not taken as inputs."""
    if source.is_file():
        return source.parent, [source.name]
    if source.resolve() == out.resolve():
        raise UsageError(f"{out} is both input and output.", fix="name another output folder")
    inner = out.resolve()
    # Not resolve(), which raises where links go in a circle.
    names = [
        name.as_posix()
        for name in list_images(source)
        if not Path(os.path.realpath(source / name)).is_relative_to(inner)
    ]
    if not names:
        raise DataError(f"There are no pictures in {source}.", accepted=", ".join(FORMATS), fix=f"ls {source}")
    return source, names


def _contested(names: Iterable[str]) -> frozenset[str]:
    """The names of PNGs that are there and that another picture would have, too, or that several would have."""
    paths = (PurePosixPath(name) for name in names)
    others = (".tif", ".tiff", ".bmp")
    counts = Counter(path.with_suffix(".png").as_posix() for path in paths if path.suffix.lower() not in others)
    return frozenset(name for name, count in counts.items() if count > 1)


def _output_name(name: str, contested: Collection[str], damage: Damage, variant: int, ids: Sequence[str]) -> str:
    path = PurePosixPath(name)
    if path.suffix.lower() not in _LOSSLESS:
        png = path.with_suffix(".png")
        # b.jpg beside b.png becomes b.jpg.png, beside b.heic too.
        path = path.with_name(path.name + ".png") if png.as_posix() in contested else png
    if damage.variants > 1:
        path = path.with_name(f"{path.stem}_v{variant}{path.suffix}")
    return (PurePosixPath("+".join(ids)) / path if damage.orders == "all" else path).as_posix()


def _refuse_overlap(sources: Iterable[Path], outputs: Iterable[str], out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is not a folder.", accepted="a folder for the damaged pictures")
    if out.suffix.lower() in FORMATS and not out.is_dir():
        raise UsageError(f"{out} looks like a picture.", accepted="a folder", fix=f"use {out.with_suffix('')}/")
    if not out.exists():
        return
    inputs = {os.path.realpath(source) for source in sources}
    for output in outputs:
        if os.path.realpath(out / output) in inputs:
            raise UsageError(f"{out / output} is one of the inputs.", fix="name another output folder")

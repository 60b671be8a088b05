"""The commands as functions: pictures in, pictures out.

A picture is a PIL image, a NumPy array (float32, H×W×3, RGB in [0, 1]) or a path. What comes back is an array where an
array went in, and a PIL image otherwise. Folders, records, resuming and metadata are what the command line is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, cast, overload

from defusion_cli.arguments import check_severity, check_whole, to_pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from defusion_cli.diffusion import DefusionPipeline
    from defusion_cli.plugins import Recipe
    from defusion_cli.restore.instruction import Instructor

    Array = NDArray[np.float32]
    File = str | Path


P = ParamSpec("P")


class _OfAnyPicture(Protocol[P]):
    """An array comes back where an array went in, a PIL image otherwise."""

    @overload
    def __call__(self, picture: Array, *args: P.args, **kwargs: P.kwargs) -> Array: ...
    @overload
    def __call__(self, picture: Image.Image | File, *args: P.args, **kwargs: P.kwargs) -> Image.Image: ...
    def __call__(self, picture: Any, *args: P.args, **kwargs: P.kwargs) -> Any: ...


def _of_any_picture(function: Callable[Concatenate[Array, P], Array]) -> _OfAnyPicture[P]:
    """A function of pixels as one of any picture."""

    @wraps(function)
    def of_picture(picture: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        return _like(picture, function(to_pixels(picture), *args, **kwargs))

    return cast("_OfAnyPicture[P]", of_picture)


@_of_any_picture
def restore(
    picture: Array,
    degradation: str | Sequence[str] | None = None,
    *,
    example: tuple[Any, Any] | None = None,
    insist: bool = False,
    model: str = "default",
    steps: int = 1,
    seed: int = 0,
    tile: int | None = None,
    scale: float | str = "auto",
    device: str = "auto",
) -> Array:
    """Take damage out of a photograph.

    Parameters
    ----------
    picture
        Of any size.
    degradation
        What to remove: an id such as ``"rain"``, or several that lie over one another; ``"auto"`` for what is
        recognised, if anything. None with no `example` says nothing of the damage.
    example
        A damaged picture and the same view without damage, of equal size: what differs is removed.
    insist
        What is named is there, even where the model's recogniser does not see it (`Degradation.odds_when_named`).
    model
        ``"default"``, a folder, or a hub id; loaded once.
    steps
        Denoising steps, 1 … 50; one is the most accurate.
    seed
        Decides the noise it starts from; 0 … 2³² − 1.
    tile
        Side of a tile in pixels, 128 … 16384; None chooses one for the free memory.
    scale
        Size at which the damage is estimated: 1, 1/2, 1/3 …; ``"auto"`` finds it from the picture.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises
    ------
    UsageError
        For a name that nobody knows, a number out of range, or both `degradation` and `example`.
    DataError
        If a file cannot be read, an array has values that are not finite, or the pictures of the example do not fit
        together.

    Examples
    --------
    >>> import numpy as np
    >>> from defusion_cli import degrade, restore, score
    >>> from skimage import data
    >>> photo = data.astronaut()[:128, 100:292].astype(np.float32) / 255
    >>> rainy = degrade(photo, "rain", severity=0.5, seed=1)
    >>> restored = restore(rainy, "rain")
    >>> restored.shape, restored.dtype
    ((128, 192, 3), dtype('float32'))
    >>> score(restored, photo)["psnr"] > score(rainy, photo)["psnr"]
    True
    """
    from defusion_cli.errors import UsageError
    from defusion_cli.restore.plan import parse_scale

    check_whole("steps", steps, 1, 50)
    check_whole("seed", seed, 0, 2**32 - 1)
    if tile is not None:
        check_whole("tile", tile, 128, 16384)
    reduction = parse_scale(str(scale))
    ids = [degradation] if isinstance(degradation, str) else list(degradation or ())
    if ids and example:
        raise UsageError("What to remove is said in more than one way.", accepted="degradation=… or example=…")
    pair = [to_pixels(one) for one in example or ()]
    instructor = _instructor(model, device, insist or ids == ["auto"])
    if ids == ["auto"]:
        ids = list(_recogniser(model, device)(picture))
        if not ids:
            return picture
    from defusion_cli.restore.scale import restore_parts

    if ids:
        instruction = instructor.by_parts(ids)
    else:
        instruction = instructor.example(*pair) if pair else instructor.blind()
    return restore_parts(instructor.pipeline, picture, instruction, steps, seed, tile, reduction)


@_of_any_picture
def degrade(
    picture: Array,
    plugins: str | Sequence[str],
    severity: float | None = None,
    *,
    seed: int = 0,
    params: Mapping[str, Mapping[str, object]] | None = None,
) -> Array:
    """Damage a photograph as weather, optics and cameras do.

    Parameters
    ----------
    plugins
        Id of a degradation, or several in the order in which they are applied.
    severity
        In [0, 1], for all of them; None lets each draw its own.
    seed
        The same one gives the same damage; 0 or more.
    params
        Parameters to force, by plugin id: ``{"snow": {"wind_deg": 10}}``.

    Raises
    ------
    UsageError
        For unknown plugins or parameters, and values out of range.
    DataError
        If a file cannot be read, or an array has values that no picture has.

    Examples
    --------
    >>> import numpy as np
    >>> from defusion_cli import degrade
    >>> grey = np.full((64, 64, 3), 0.5, np.float32)
    >>> noisy = degrade(grey, "noise", severity=0.4, seed=7)
    >>> bool((noisy == degrade(grey, "noise", severity=0.4, seed=7)).all())
    True
    >>> degrade(grey, "noize")
    Traceback (most recent call last):
    ...
    defusion_cli.errors.UsageError: There is no degradation named 'noize'.
      accepted: ...
      fix: did you mean noise?
    """
    import numpy as np

    from defusion_cli.plugins import apply_recipe, draw_recipe, installed_plugins

    check_severity(severity)
    check_whole("seed", seed, 0)
    ids = [plugins] if isinstance(plugins, str) else list(plugins)
    recipe = draw_recipe(ids, installed_plugins(), np.random.default_rng(seed), severity, params)
    return apply_recipe(picture, recipe, installed_plugins())


@dataclass(frozen=True)
class Ground:
    """A visual ground and what a degradation does to it.

    Attributes
    ----------
    ground, degraded
        Size×size×3 float32 in [0, 1].
    instruction
        degraded − ground, in [−1, 1].
    recipe
        How it was damaged.
    """

    ground: Array
    degraded: Array
    instruction: Array
    recipe: Recipe


def make_ground(
    plugins: str | Sequence[str] = (),
    severity: float | None = None,
    *,
    kind: str = "visual",
    size: int = 224,
    seed: int = 0,
) -> Ground:
    """Draw a test chart and its damaged twin.

    Parameters
    ----------
    plugins, severity
        As for `degrade`; no plugins leave the chart as it is.
    kind
        ``"visual"``, ``"simple"`` or ``"blank"``.
    size
        Side in pixels, 32 … 1024.
    seed
        Decides all that is drawn; 0 or more.

    Raises
    ------
    UsageError
        For an unknown plugin or kind, or a number out of range.

    Examples
    --------
    >>> from defusion_cli import make_ground
    >>> rainy = make_ground("rain", severity=0.6)
    >>> rainy.instruction.shape, bool(rainy.instruction.any())
    ((224, 224, 3), True)
    >>> bool(make_ground().instruction.any())
    False
    """
    import numpy as np

    from defusion_cli.ground import MAX_SIZE, MIN_SIZE, draw_instruction
    from defusion_cli.plugins import installed_plugins

    check_severity(severity)
    check_whole("size", size, MIN_SIZE, MAX_SIZE)
    check_whole("seed", seed, 0)
    ids = [plugins] if isinstance(plugins, str) else list(plugins)
    drawn = draw_instruction(ids, installed_plugins(), np.random.default_rng(seed), kind, severity, size)
    return Ground(*drawn)


def score(
    picture: Image.Image | Array | File,
    reference: Image.Image | Array | File,
    metrics: str | Sequence[str] = "psnr,ssim",
    *,
    protocol: str = "pyiqa",
) -> dict[str, float]:
    """Compare a restored picture with the true one, or two folders of them.

    Parameters
    ----------
    picture, reference
        Two pictures of equal size, or two folders, paired by name.
    metrics
        Names, separated by commas, as for ``defusion score``; of pictures that are no files ``psnr``, ``psnry``,
        ``psnrb``, ``ssim``, ``ssimc`` and ``mae``.
    protocol
        ``"pyiqa"``, ``"rgb"`` or ``"y"``.

    Returns
    -------
    dict
        Value by metric; for folders, means over all pairs.

    Raises
    ------
    UsageError
        For an unknown metric or protocol.
    DataError
        If the pictures differ in size or are none, a picture of a folder has no partner, or one cannot be scored.
    DefusionError
        If the weights of a metric are missing.

    Examples
    --------
    >>> import numpy as np
    >>> from defusion_cli import score
    >>> grey = np.full((32, 32, 3), 0.5, np.float32)
    >>> round(score(grey + np.float32(0.1), grey)["psnr"], 2)
    20.0
    """
    from defusion_cli.errors import UsageError
    from defusion_cli.scoring.metrics import find_metrics
    from defusion_cli.scoring.protocols import find_protocol

    settled = find_protocol(protocol, None)
    wanted = find_metrics(metrics if isinstance(metrics, str) else ",".join(metrics), settled, True)
    folders = [Path(one) for one in (picture, reference) if isinstance(one, (str, Path)) and Path(one).is_dir()]
    if len(folders) == 2:
        return _score_folders(folders[0], folders[1], wanted, settled)
    if folders:
        raise UsageError(f"Only {folders[0]} is a folder.", accepted="two pictures, or two folders of them")
    files = [Path(one) for one in (picture, reference) if isinstance(one, (str, Path))]
    if len(files) == 2 and not all(metric.function for metric in wanted):
        return _score_folders(files[0], files[1], wanted, settled)
    return _score_pictures(to_pixels(picture), to_pixels(reference), wanted)


def _score_folders(out: Path, ref: Path, metrics: Sequence[Any], protocol: Any) -> dict[str, float]:
    from defusion_cli.errors import DataError
    from defusion_cli.scoring.pairs import pair_folders
    from defusion_cli.scoring.report import mean_and_error
    from defusion_cli.scoring.run import score_pairs
    from defusion_cli.scoring.sets import prepare, score_set

    pairing = pair_folders(out, ref)
    if pairing.orphans:
        more = ", …" if len(pairing.orphans) > 1 else ""
        raise DataError(
            "Not every picture has a partner.", found=pairing.orphans[0] + more, accepted=f"pairs: {pairing.rule}"
        )
    pairs = pairing.pairs
    single = [metric for metric in metrics if metric.kind != "set"]
    rows = score_pairs(pairs, single, protocol, "cpu", lambda row: None)
    for row in rows:
        if row.problem is not None:
            raise row.problem
    found = {metric.name: mean_and_error([row.scores[metric.name] for row in rows])[0] for metric in single}
    for metric in metrics:
        if metric.kind == "set":
            found[metric.name] = score_set(pairs, prepare(metric, "cpu"), _watch_nothing, protocol.crop)[0]
    return {metric.name: found[metric.name] for metric in metrics}


def _watch_nothing(steps: int = 1) -> None:
    """For who wants to be told of progress, where nobody looks."""


def _score_pictures(picture: Array, reference: Array, metrics: Sequence[Any]) -> dict[str, float]:
    from defusion_cli.errors import DataError, UsageError

    if picture.shape != reference.shape:
        sizes = [f"{one.shape[1]}×{one.shape[0]}" for one in (picture, reference)]
        raise DataError("The two pictures differ in size.", found=" and ".join(sizes))
    found = {}
    for metric in metrics:
        if metric.function is None:
            raise UsageError(
                f"{metric.name} needs files.",
                accepted="psnr, psnry, psnrb, ssim, ssimc, mae of arrays and images; anything of files and folders",
                fix='score("restored.png", "true.png", …)',
            )
        found[metric.name] = metric.function(picture, reference, None)
    return found


@lru_cache(maxsize=4)
def _instructor(model: str, device: str, insist: bool) -> Instructor:
    from defusion_cli.plugins import installed_plugins
    from defusion_cli.restore.instruction import Instructor

    return Instructor(_pipeline(model, device), installed_plugins(), insist=insist)


@lru_cache(maxsize=2)
def _pipeline(model: str, device: str) -> DefusionPipeline:
    from defusion_cli.restore.model import choose_device, load_pipeline

    return load_pipeline(model, choose_device(device))


@lru_cache(maxsize=2)
def _recogniser(model: str, device: str) -> Callable[[Array], Sequence[str]]:
    """A function that names the damage in a picture."""
    from defusion_cli.canvas import ArrayPhoto
    from defusion_cli.recognition import recognise
    from defusion_cli.restore.model import choose_device, load_recogniser

    network = load_recogniser(model, choose_device(device))
    instructor = _instructor(model, device, True)
    return lambda pixels: instructor.recognised(recognise(network, ArrayPhoto(pixels)))


def _like(picture: Image.Image | Array | File, pixels: Array) -> Image.Image | Array:
    """`pixels` in the form in which `picture` came."""
    from PIL import Image

    from defusion_cli.images import to_uint8

    return Image.fromarray(to_uint8(pixels)) if isinstance(picture, (str, Path, Image.Image)) else pixels

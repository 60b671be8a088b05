"""Metrics of two whole sets of pictures: FID, and what pyiqa computes from folders."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defusion_cli.images import read_pixels, write_image
from defusion_cli.scoring import engine
from defusion_cli.scoring.alignment import centre
from defusion_cli.scoring.fid import Inception, frechet_distance
from defusion_cli.scoring.metrics import Metric
from defusion_cli.scoring.pairs import Pair
from defusion_cli.scoring.protocols import Crop


@dataclass(frozen=True)
class SetScorer:
    """A metric of kind "set" with its network: made before any work is done, since weights may be missing."""

    metric: Metric
    network: Any


def prepare(metric: Metric, device: str) -> SetScorer:
    """Load what `metric` needs.

    Raises
    ------
    DefusionError
        If its weights are neither here nor to be downloaded.
    """
    if metric.fid_mode is not None:
        return SetScorer(metric, Inception(metric.fid_mode, device))
    return SetScorer(metric, engine.make_metric(metric.name, device))


def score_set(
    pairs: Sequence[Pair], scorer: SetScorer, watch: Callable[[], None], crop: Crop = "none"
) -> tuple[float, float | None]:
    """The metric over the restored pictures, and over the baseline's (None without one).

    Parameters
    ----------
    pairs
        Those that could be read.
    watch
        Called after each picture that goes through the network.
    crop
        Of the protocol: "reference-centre" cuts the true pictures here, too.

    Raises
    ------
    DataError
        If there are too few pictures.
    """
    metric = scorer.metric
    # As strings, which take a quarter of the memory of paths.
    outs = [str(pair.out) for pair in pairs]
    refs = list(dict.fromkeys(str(pair.ref) for pair in pairs if pair.ref))
    bases = [str(pair.baseline) for pair in pairs if pair.baseline]
    cut_to = {str(pair.ref): str(pair.out) for pair in pairs if pair.ref} if crop == "reference-centre" else {}
    if metric.fid_mode is None:
        return _by_folder(outs, refs, scorer, cut_to), _by_folder(bases, refs, scorer, cut_to) if bases else None
    inception: Inception = scorer.network
    reference = inception.statistics(refs, True, watch, cut_to)
    found = frechet_distance(inception.statistics(outs, False, watch), reference)
    if not bases:
        return found, None
    # The same input is compared with every model: worth keeping like the references.
    return found, frechet_distance(inception.statistics(bases, True, watch), reference)


def work(pairs: Sequence[Pair], metric: Metric) -> int:
    """How often `score_set` calls its `watch`."""
    if metric.fid_mode is None:
        return 0
    return len(pairs) + len({pair.ref for pair in pairs}) + sum(pair.baseline is not None for pair in pairs)


def _by_folder(pictures: Sequence[str], refs: Sequence[str], scorer: SetScorer, cut_to: Mapping[str, str]) -> float:
    """pyiqa's number for two folders, which hold links to exactly these pictures, or what is cut out of them."""
    with tempfile.TemporaryDirectory(prefix="defusion-") as temporary:
        folders = []
        for name, files in (("out", pictures), ("ref", refs)):
            folder = Path(temporary, name)
            folder.mkdir()
            for index, file in enumerate(map(Path, files)):
                if name == "ref" and cut_to:
                    cut = centre(read_pixels(file), read_pixels(Path(cut_to[str(file)])))
                    write_image(folder / f"{index:06d}.png", cut)
                else:
                    os.symlink(file.resolve(), folder / f"{index:06d}{file.suffix}")
            folders.append(str(folder))
        with engine.quiet(), engine.old_sqrtm():
            return float(scorer.network(*folders[: 2 if scorer.metric.needs_reference else 1], num_workers=0))

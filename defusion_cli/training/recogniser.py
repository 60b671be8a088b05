"""The recipe of the recogniser: views damaged on the fly, described by their statistics, and a network fitted to them.

Drawing and describing is what takes the time: it goes shard by shard, each of them kept when it is finished, so that
an interrupted run goes on from there. The fit takes seconds and begins anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from defusion_cli.console import progress
from defusion_cli.data.recognition import LabelledViews
from defusion_cli.data.sources import PhotoSource, describe_photographs
from defusion_cli.data.workers import Explained, deaths_explained, loading, raise_explained
from defusion_cli.plugins.compose import Plugins
from defusion_cli.recognition import DegradationRecogniser, describe
from defusion_cli.recognition.look import THUMBNAIL_PX
from defusion_cli.training.checkpoint import list_checkpoints, load_checkpoint, remember_recipe, save_checkpoint
from defusion_cli.training.log import RunLog
from defusion_cli.training.recogniser_check import Check, check_recogniser
from defusion_cli.training.recogniser_config import RecogniserRecipe

_OF_THE_FIT = {"hidden", "dropout", "shards", "epochs", "batch", "lr", "weight_decay", "jitter"}
_MAY_CHANGE = _OF_THE_FIT | {"threshold", "companion", "check_photos", "photographs", "workers"}
"""Settings that may differ when a run goes on: the finished shards do not depend on them."""


@dataclass(frozen=True)
class RecogniserRun:
    """Where a run reads and writes.

    Attributes
    ----------
    out
        Run folder: shards, metrics, and at the end ``recogniser/``.
    sources
        Training photographs; of pairs only the clean picture is used.
    ids, plugins
        Degradations to recognise, and all known ones.
    seed
        Of weights and samples.
    validation
        Photographs that the result is scored on.
    """

    out: Path
    sources: Sequence[PhotoSource]
    ids: Sequence[str]
    plugins: Plugins
    seed: int = 0
    validation: Sequence[Path] = ()


def train_recogniser(recipe: RecogniserRecipe, run: RecogniserRun) -> tuple[Path, Check | None]:
    """Draw what is missing of the shards, fit the network, export and score it.

    Returns
    -------
    Path
        The exported ``recogniser/`` folder.
    Check or None
        How well it does on the validation photographs, if there are any.

    Raises
    ------
    UsageError
        If the run folder belongs to another recipe.
    DataError
        If a shard or a training picture cannot be read.
    """
    settings = {"seed": run.seed, "plugins": list(run.ids), "photographs": describe_photographs(run.sources)}
    remember_recipe(run.out, dataclasses.asdict(recipe) | settings, _MAY_CHANGE, checkpoints="shards")
    features, present = _shards(recipe, run)
    network = fit(recipe, run.ids, features, present, run.seed, RunLog(run.out))
    folder = export_recogniser(network, run.out / "recogniser")
    photos = list(run.validation)[: recipe.check_photos]
    return folder, check_recogniser(network, photos, run.plugins) if photos else None


def _shards(recipe: RecogniserRecipe, run: RecogniserRun) -> tuple[Tensor, Tensor]:
    """Features N×F and labels N×P of all views."""
    folder, views = run.out / "shards", LabelledViews(run.sources, run.ids, run.plugins, recipe.samples)
    wanted = range(recipe.shards)
    finished = {number for number, _ in list_checkpoints(folder)}.intersection(wanted)
    missing = [number for number in wanted if number not in finished]
    loader: DataLoader[_Shard] = DataLoader(
        Explained(_Shards(views, run.seed, recipe.photos)),
        sampler=missing,
        batch_size=1,
        **loading(min(recipe.workers, len(missing)), itemgetter(0)),
    )
    with progress("Drawing", recipe.shards, "shards", done=len(finished)) as bar, deaths_explained():
        for shard in raise_explained(loader):
            state = {"features": shard.features, "present": shard.present}
            save_checkpoint(folder, shard.number, state, keep=recipe.shards)
            bar.advance()
    states = [load_checkpoint(path)[1] for number, path in list_checkpoints(folder) if number in wanted]
    return torch.cat([state["features"] for state in states]), torch.cat([state["present"] for state in states])


class _Shard(NamedTuple):
    """Features N×F and labels N×P of some of the views."""

    number: int
    features: Tensor
    present: Tensor


class _Shards(Dataset[_Shard]):
    """Shards by their numbers, for data-loader workers."""

    def __init__(self, views: LabelledViews, seed: int, photos: int) -> None:
        self.views, self.seed, self.photos = views, seed, photos

    def __getitem__(self, number: int) -> _Shard:
        cv2.setNumThreads(1)
        return _Shard(number, *draw_shard(self.views, self.seed, number, self.photos))


def draw_shard(views: LabelledViews, seed: int, number: int, photos: int) -> tuple[Tensor, Tensor]:
    """Features N×F and labels N×P; N = photos · views_per_photo. A function of seed and number alone."""
    drawn = [
        view
        for photo in range(photos)
        for view in views.draw(np.random.default_rng([seed, number, photo]), THUMBNAIL_PX)
    ]
    features = np.stack([describe(view.crops, view.whole) for view in drawn])
    return torch.from_numpy(features), torch.from_numpy(np.stack([view.present for view in drawn]))


def fit(
    recipe: RecogniserRecipe, ids: Sequence[str], features: Tensor, present: Tensor, seed: int, log: RunLog
) -> DegradationRecogniser:
    """Minimise the binary cross-entropy of every degradation; the network comes back in evaluation mode.

    Parameters
    ----------
    features, present
        N×F, and N×P of 0 and 1.
    """
    torch.manual_seed(seed)
    network = DegradationRecogniser(
        ids=tuple(ids),
        features=features.shape[1],
        hidden=recipe.hidden,
        dropout=recipe.dropout,
        threshold=recipe.threshold,
        companion=recipe.companion,
    )
    network.standardise(features)
    network.train()
    adam = torch.optim.AdamW(network.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(adam, recipe.epochs)
    with progress("Fitting", recipe.epochs, "epochs") as bar:
        for epoch in range(recipe.epochs):
            losses, right = [], []
            for rows in torch.randperm(len(features)).split(recipe.batch):
                logits = network(features[rows], recipe.jitter)
                loss = F.binary_cross_entropy_with_logits(logits, present[rows])
                adam.zero_grad(set_to_none=True)
                loss.backward()
                adam.step()
                losses.append(loss.detach())
                right.append(((logits > 0) == (present[rows] > 0.5)).all(1).float().mean())
            fall.step()
            log.add(
                epoch + 1, {"loss": torch.stack(losses).mean().item(), "all_right": torch.stack(right).mean().item()}
            )
            bar.advance()
    log.close()
    return network.eval().requires_grad_(False)


def export_recogniser(network: DegradationRecogniser, folder: Path) -> Path:
    """Write ``config.json`` and float16 safetensors; the network in memory stays as it is."""
    copy = DegradationRecogniser.from_config(network.config)
    copy.load_state_dict(network.state_dict())
    copy.half().save_pretrained(folder, safe_serialization=True)
    return folder

"""The recipe of the recogniser: binary cross-entropy of every degradation, on views damaged on the fly.

One process is all that this network needs. Every sample depends on (seed, step, number) only, so an interruption
does not change what is computed.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from defusion_cli.console import note, progress
from defusion_cli.data.recognition import LabelledViews
from defusion_cli.data.sources import PhotoSource
from defusion_cli.diffusion.pipeline import THUMBNAIL_PX, use_bfloat16
from defusion_cli.errors import DefusionError, UsageError
from defusion_cli.files import write_atomically
from defusion_cli.plugins.compose import Plugins
from defusion_cli.recognition import DegradationRecogniser
from defusion_cli.recognition.look import to_tensor
from defusion_cli.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from defusion_cli.training.ema import Ema
from defusion_cli.training.log import RunLog
from defusion_cli.training.recogniser_check import Check, check_recogniser
from defusion_cli.training.recogniser_config import RecogniserRecipe

_MAY_CHANGE = {"steps", "log_every", "checkpoint_every", "check_photos"}
"""Settings that may differ when a run goes on; `steps` moves the end of the schedule."""


@dataclass(frozen=True)
class RecogniserRun:
    """Where a run reads and writes.

    Attributes
    ----------
    out
        Run folder: checkpoints, metrics, and at the end ``recogniser/``.
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


class RecogniserTraining:
    """Network, average, optimiser and one step."""

    def __init__(self, recipe: RecogniserRecipe, ids: Sequence[str], seed: int, device: torch.device) -> None:
        self.recipe, self.device, self.step = recipe, device, 0
        torch.manual_seed(seed)
        self.network = self._fresh(ids)
        self.ema = Ema(self.network, recipe.ema_decay)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), recipe.lr, (0.9, 0.99), weight_decay=recipe.weight_decay
        )

    def _fresh(self, ids: Sequence[str]) -> DegradationRecogniser:
        recipe = self.recipe
        network = DegradationRecogniser(
            ids=tuple(ids), widths=recipe.widths, hidden=recipe.hidden, threshold=recipe.threshold
        )
        return network.to(self.device).to(memory_format=torch.channels_last)

    def train_step(self, crops: Tensor, whole: Tensor, present: Tensor) -> dict[str, float]:
        """One step on N×K×3×c×c crops, N×3×64×64 thumbnails (in [0, 1]) and N×P labels."""
        rate = self.recipe.learning_rate(self.step)
        self.optimiser.param_groups[0]["lr"] = rate
        kind = self.device.type
        with torch.autocast(kind, torch.bfloat16) if use_bfloat16(kind) else nullcontext():
            logits = self.network(crops.to(self.device), whole.to(self.device))
        wanted = present.to(self.device)
        loss = F.binary_cross_entropy_with_logits(logits, wanted)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.grad_clip)
        if not torch.isfinite(norm):
            raise DefusionError("Training diverged.", fix=f"--set lr={self.recipe.lr / 2:g}")
        self.optimiser.step()
        self.ema.update(self.network, self.step)
        self.step += 1
        right = ((logits > 0) == (wanted > 0.5)).all(dim=1).float().mean()
        return {"loss": loss.item(), "all_right": right.item(), "grad_norm": norm.item(), "lr": rate}

    def averaged(self) -> DegradationRecogniser:
        """The averaged weights, in evaluation mode."""
        network = self._fresh(self.network.ids)
        self.ema.copy_to(network)
        return network.eval().requires_grad_(False)

    def state(self) -> dict[str, Any]:
        """All that training goes on from."""
        return {
            "network": self.network.state_dict(),
            "ema": self.ema.shadow,
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state(self, step: int, state: dict[str, Any]) -> None:
        """Go on from what `state` returned at `step`."""
        self.network.load_state_dict(state["network"])
        self.ema.shadow = {name: tensor.to(self.device) for name, tensor in state["ema"].items()}
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = step


def train_recogniser(recipe: RecogniserRecipe, run: RecogniserRun, device: torch.device) -> tuple[Path, Check | None]:
    """Train, or go on training, until ``recipe.steps``; export the network and score it.

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
        If a checkpoint or a training picture cannot be read.
    """
    training = RecogniserTraining(recipe, run.ids, run.seed, device)
    checkpoint = latest_checkpoint(run.out / "checkpoints")
    _remember_recipe(recipe, run, resumed=checkpoint is not None)
    if checkpoint is not None:
        training.load_state(*load_checkpoint(checkpoint))
        note(f"going on from step {training.step}")
    _loop(training, run)
    network = training.averaged()
    folder = export_recogniser(network, run.out / "recogniser")
    photos = list(run.validation)[: recipe.check_photos]
    return folder, check_recogniser(network, photos, run.plugins) if photos else None


def _loop(training: RecogniserTraining, run: RecogniserRun) -> None:
    recipe, log = training.recipe, RunLog(run.out, training.step)
    views = LabelledViews(run.sources, run.ids, run.plugins, recipe.samples)
    recent: list[dict[str, float]] = []
    mark = time.monotonic()
    with progress("Training", recipe.steps, "steps", done=training.step) as bar:
        while training.step < recipe.steps:
            recent.append(training.train_step(*draw_batch(views, run.seed, training.step, recipe.photos)))
            step, end = training.step, training.step == recipe.steps
            bar.advance()
            if step % recipe.log_every == 0 or end:
                row = {name: sum(values[name] for values in recent) / len(recent) for name in recent[0]}
                row["steps_per_s"] = len(recent) / (time.monotonic() - mark)
                log.add(step, row)
                bar.status(f"loss {row['loss']:.3f}, all right {row['all_right']:.0%}")
                recent, mark = [], time.monotonic()
            if step % recipe.checkpoint_every == 0 or end:
                save_checkpoint(run.out / "checkpoints", step, training.state())
    log.close()


def draw_batch(views: LabelledViews, seed: int, step: int, photos: int) -> tuple[Tensor, Tensor, Tensor]:
    """Crops N×K×3×c×c, thumbnails N×3×64×64 and labels N×P of a step; N = photos · views_per_photo."""
    drawn = [
        view
        for number in range(photos)
        for view in views.draw(np.random.default_rng([seed, step, number]), THUMBNAIL_PX)
    ]
    crops = torch.stack([to_tensor(list(view.crops)) for view in drawn])
    whole = to_tensor([view.whole for view in drawn])
    return crops, whole, torch.from_numpy(np.stack([view.present for view in drawn]))


def export_recogniser(network: DegradationRecogniser, folder: Path) -> Path:
    """Write ``config.json`` and float16 safetensors; the network in memory stays as it is."""
    copy = DegradationRecogniser.from_config(network.config)
    copy.load_state_dict(network.state_dict())
    copy.half().save_pretrained(folder, safe_serialization=True)
    return folder


def _remember_recipe(recipe: RecogniserRecipe, run: RecogniserRun, resumed: bool) -> None:
    """Keep the resolved recipe in the run folder, and refuse to go on with another one."""
    path = run.out / "recipe.json"
    now = json.loads(json.dumps({**dataclasses.asdict(recipe), "seed": run.seed, "plugins": list(run.ids)}))
    if resumed and path.exists():
        before = json.loads(path.read_text())
        changed = sorted(key for key in now if before.get(key) != now[key] and key not in _MAY_CHANGE)
        if changed:
            raise UsageError(
                f"The run in {run.out} was started with other settings.",
                found=", ".join(f"{key} {now[key]}" for key in changed),
                accepted=", ".join(f"{key} {before.get(key)}" for key in changed),
                fix="--out another folder, or the settings of before",
            )
    run.out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(now, indent=2).encode())

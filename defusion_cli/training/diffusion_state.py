"""The state of a diffusion training, and one step of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from defusion_cli.data.loader import Batch
from defusion_cli.data.sources import PhotoSource
from defusion_cli.diffusion.backbone import init_from, make_backbone, tokens_of_each
from defusion_cli.diffusion.pipeline import DefusionPipeline, half_precision
from defusion_cli.diffusion.schedule import LAST_TIMESTEP, diffuse, make_scheduler, precondition, reverse
from defusion_cli.diffusion.unet import DegradationUNet
from defusion_cli.errors import DefusionError
from defusion_cli.plugins.compose import Plugins
from defusion_cli.tokenizer import InstructionTokenizer
from defusion_cli.training.balance import Balance, kinds_of
from defusion_cli.training.bank import InstructionBank
from defusion_cli.training.checkpoint import rng_state
from defusion_cli.training.diffusion_config import DiffusionConfig
from defusion_cli.training.ema import Ema
from defusion_cli.training.export import TOLD
from defusion_cli.training.guard import GradientGuard
from defusion_cli.training.launch import Rank
from defusion_cli.training.losses import ERROR_FLOOR, USUAL, crop_losses, relative_errors, square_errors, view_losses
from defusion_cli.training.noise import draw_noise
from defusion_cli.training.optimiser import Optimisers
from defusion_cli.training.tokenizer_state import Perceptual

_MOST_REFUSED = 20
_CALIBRATION_SLOTS = 8


@dataclass(frozen=True)
class DiffusionRun:
    """Where a run reads and writes.

    Attributes
    ----------
    out
        Run folder: checkpoints, metrics, pictures, ``model/`` in diffusers' layout.
    sources
        Training photographs.
    ids, plugins
        Degradations to train, and all known ones.
    tokenizer
        Trained instruction tokenizer; it stays fixed.
    validation
        Photographs that are only looked at.
    init_from
        Folder of a diffusers U-Net to start from.
    natural_dir
        Photographs for the natural element of the ground.
    """

    out: Path
    sources: Sequence[PhotoSource]
    ids: Sequence[str]
    plugins: Plugins
    tokenizer: InstructionTokenizer
    validation: Sequence[Path] = ()
    init_from: Path | None = None
    natural_dir: Path | None = None


class _Given(NamedTuple):
    """What the network knows besides y_t and t: of N crops, and once of each of the V views that they are cut from."""

    lq: Tensor
    boxes: Tensor
    tokens: Tensor
    cells: Tensor
    grain: Tensor

    def part(self, crops: list[int]) -> _Given:
        """Of some crops, each with what is known of its view."""
        each = len(self.lq) // len(self.tokens)
        views = [crop // each for crop in crops]
        return _Given(self.lq[crops], self.boxes[crops], *(known[views] for known in self[2:]))


class DiffusionTraining:
    """Model, average, optimiser and the mathematics of one step.

    Parameters
    ----------
    perceptual
        Distances of N×3×H×W pictures in [0, 1], such as LPIPS; needed if its weight is not zero.
    """

    def __init__(
        self, config: DiffusionConfig, run: DiffusionRun, rank: Rank, perceptual: Perceptual | None = None
    ) -> None:
        self.config, self.rank, self.step = config, rank, 0
        torch.manual_seed(config.seed)
        self.model = make_backbone(config.backbone, config.backbone_options).to(rank.device)
        self.model.to(memory_format=torch.channels_last)
        self.init_report = init_from(self.model, run.init_from) if run.init_from else None
        self.ema = Ema(self.model, config.ema_decay)
        self.optimisers = Optimisers(
            self.model, config.lr, config.betas, config.weight_decay, config.muon_lr, config.muon_decay
        )
        self.scheduler: DDIMScheduler = make_scheduler()
        self.bank = InstructionBank(
            run.tokenizer.to(rank.device),
            run.plugins,
            config.seed,
            config.instruction_slots,
            config.ground_kind,
            run.natural_dir,
        )
        self.ids = list(run.ids)
        self.sparse = {plugin_id for plugin_id in run.ids if run.plugins[plugin_id].sparse}
        self.blurring = {plugin_id for plugin_id in run.ids if run.plugins[plugin_id].uniform_blur}
        self._calibrate(run.ids)
        self.forward: nn.Module = self.model
        self.in_coarse_stretch: bool | None = None
        self.perceptual = perceptual if config.perceptual_weight else None
        self.balance = Balance(run.ids, USUAL)
        self.guard = GradientGuard()

    def _calibrate(self, ids: Sequence[str]) -> None:
        """Show a fresh backbone of ours how instructions differ."""
        fresh = not (self.init_report and "instruction.mean" in self.init_report.loaded)
        if isinstance(self.model, DegradationUNet) and fresh:
            slots = range(min(_CALIBRATION_SLOTS, self.config.instruction_slots))
            shown = [(plugin_id,) for plugin_id in ids for _ in slots]
            self.model.calibrate(self.bank.tokens(shown, [slot for _ in ids for slot in slots]))

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One optimiser step on this rank's part of a batch; returns scalars to log."""
        coarse = self.config.is_coarse(self.step)
        alone = coarse or self.config.learns == "sharpening"  # a part of the network, which has its own loss
        if coarse is not self.in_coarse_stretch:
            self._begin_stretch(coarse, alone)
        parts = self._parts(batch)
        loss_of = self._coarse_loss if coarse else self._sharpening_loss if alone else self._loss
        total = torch.zeros((), device=self.rank.device)
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            wait = nullcontext() if last or self.forward is self.model else self.forward.no_sync()  # type: ignore[operator]
            with wait:
                loss = loss_of(batch, part) * (len(part) / len(batch.numbers))
                loss.backward()
            total += loss.detach()
        if alone and self.rank.count > 1:
            self._share_gradients()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self._update(norm)
        self.balance.end_step(self.rank.device)
        self.step += 1
        if self.rank.count > 1:
            torch.distributed.all_reduce(total)
            total /= self.rank.count
        return {"loss": float(total), "grad_norm": float(norm), "lr": self.config.learning_rate(self.step - 1)}

    def _begin_stretch(self, coarse: bool, alone: bool) -> None:
        """Let learn what learns from this step on."""
        self.in_coarse_stretch = coarse
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(coarse or _learns(name, self.config.learns))
        if self.rank.count > 1 and not alone:  # it must be told anew of what learns
            devices = [self.rank.device.index] if self.rank.device.type == "cuda" else None
            self.forward = DistributedDataParallel(self.model, devices, gradient_as_bucket_view=True)

    def _share_gradients(self) -> None:
        """Average over all processes what DistributedDataParallel leaves alone: gradients of a part of the network."""
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= self.rank.count

    def _parts(self, batch: Batch) -> list[range]:
        """The views of a batch in pieces of at most ``micro_batch`` crops."""
        views, each = len(batch.numbers), self.config.synthesis.crops_per_view
        size = max(1, self.config.micro_batch // each) if self.config.micro_batch else views
        return [range(start, min(start + size, views)) for start in range(0, views, size)]

    def _loss(self, batch: Batch, part: range) -> Tensor:
        """Mean loss of some views: how far ŷ₀(y_t, t, x_LQ, v) is from y₀ (supplement section 8; y₀-prediction)."""
        config, device, k = self.config, self.rank.device, self.config.synthesis.crops_per_view
        crops = self._crops_of(part)
        lq, y0, sizes = self._pictures(batch, part)
        noise, paths = draw_noise(config, self.step, [batch.numbers[i] for i in part], y0.shape)
        noise, timestep = noise.to(device), torch.tensor([path[-1] for path in paths], device=device)
        tokens = self._tokens(batch, part)
        cells = (2 * batch.cells[part.start : part.stop] - 1).to(device)
        grain = batch.grain[part.start : part.stop].to(device)
        given = _Given(lq, batch.boxes[crops].to(device), tokens, cells, grain)
        y_t = diffuse(self.scheduler, config.damage_scale * y0, noise, timestep)
        self._walk(y_t, noise, paths, given)
        estimate, *coarse = self._predict(self.forward, y_t, timestep, given)
        loss = self._crop_loss(estimate, y0, sizes, [batch.shown[i] for i in part])
        loss = loss + self._perceptual_loss(lq, estimate, y0, timestep)
        if coarse:
            goal = 2 * batch.coarse[part.start : part.stop].to(device)
            loss = loss + view_losses(square_errors(coarse[0], goal), sizes[::k]).mean()
        return loss

    def _crops_of(self, part: range) -> slice:
        """Where the crops of some views lie among those of a batch."""
        k = self.config.synthesis.crops_per_view
        return slice(part.start * k, part.stop * k)

    def _to_crops(self, shown: Sequence[Sequence[str]]) -> list[Sequence[str]]:
        """What is shown with each crop, from what is shown with each view."""
        return [ids for ids in shown for _ in range(self.config.synthesis.crops_per_view)]

    def _pictures(self, batch: Batch, part: range) -> tuple[Tensor, Tensor, Tensor]:
        """x_LQ and y₀ of the crops of some views, N×3×H×W, and the root mean square of y₀ in their views, N."""
        crops, device = self._crops_of(part), self.rank.device
        lq = (2 * batch.lq[crops] - 1).to(device, memory_format=torch.channels_last)
        y0 = (2 * (batch.lq[crops] - batch.target[crops])).to(device, memory_format=torch.channels_last)
        sizes = 2 * batch.damage[part.start : part.stop].to(device)
        return lq, y0, sizes.repeat_interleave(self.config.synthesis.crops_per_view)

    def _tokens(self, batch: Batch, part: range) -> Tensor:
        """Of the instructions of some views."""
        return self.bank.tokens([batch.shown[i] for i in part], [batch.slots[i] for i in part]).to(self.rank.device)

    def _crop_loss(self, estimate: Tensor, y0: Tensor, sizes: Tensor, shown: Sequence[Sequence[str]]) -> Tensor:
        """Mean of `crop_losses`; what was wrong with each kind is remembered."""
        shown = self._to_crops(shown)
        untouched = None
        if self.config.untouched_weight:
            sparse = [bool(ids) and self.sparse.issuperset(ids) for ids in shown]
            untouched = self.config.untouched_weight * torch.tensor(sparse, device=sizes.device)
        if self.config.loss != "balanced":
            return crop_losses(estimate, y0, sizes, self.config.loss, untouched=untouched).mean()
        kinds = kinds_of(shown, sizes)
        self.balance.note(kinds, relative_errors(square_errors(estimate.detach(), y0), sizes))
        usual = self.balance.usual_of(kinds).to(sizes.device)
        return crop_losses(estimate, y0, sizes, "balanced", usual, untouched).mean()

    def _predict(self, model: nn.Module, y_t: Tensor, timestep: Tensor, given: _Given) -> list[Tensor]:
        """ŷ₀ of N crops, and in training what the coarse branch says."""
        seen = torch.cat([precondition(self.scheduler, y_t, timestep), given.lq], dim=1)
        with half_precision(self.rank.device.type):
            outputs = model(
                seen.contiguous(memory_format=torch.channels_last),
                timestep,
                tokens_of_each(self.model, given.tokens, len(given.lq)),
                added_cond_kwargs={"cells": given.cells, "box": given.boxes, "grain": given.grain},
                return_dict=False,
            )
        return [output.float() for output in outputs]

    @torch.no_grad()
    def _walk(self, y_t: Tensor, noise: Tensor, paths: Sequence[Sequence[int]], given: _Given) -> None:
        """Put into y_t (N×3×H×W) where the network itself comes to from pure noise, for paths of more than one t."""
        for crop, path in enumerate(paths):
            if len(path) > 1:
                y_t[crop] = noise[crop]
        for stop in range(max(map(len, paths)) - 1):
            here = [n for n, path in enumerate(paths) if stop < len(path) - 1]
            now, then = (torch.tensor([paths[n][stop + k] for n in here], device=y_t.device) for k in (0, 1))
            y0 = self.config.damage_scale * self._predict(self.model, y_t[here], now, given.part(here))[0]
            y_t[here] = reverse(self.scheduler, y_t[here], y0, now, then)

    def _perceptual_loss(self, lq: Tensor, estimate: Tensor, y0: Tensor, timestep: Tensor) -> Tensor:
        """Weighted mean over N crops, in [−1, 1], of the distance between restored and true one; none at t = T."""
        later = timestep < LAST_TIMESTEP
        if self.perceptual is None or not later.any():
            return torch.zeros((), device=lq.device)
        restored, true = ((lq[later] - damage[later]) / 2 + 0.5 for damage in (estimate, y0))
        return self.config.perceptual_weight * self.perceptual(restored, true).sum() / len(lq)

    def _coarse_loss(self, batch: Batch, part: range) -> Tensor:
        """Mean loss of the coarse branch on some whole views, of which it sees the cells."""
        device, views = self.rank.device, slice(part.start, part.stop)
        cells = (2 * batch.cells[views] - 1).to(device, memory_format=torch.channels_last)
        y0 = (2 * batch.coarse[views]).to(device)
        tokens = self._tokens(batch, part)
        model: Any = self.model
        with half_precision(device.type):
            estimate = model.coarse_estimate(tokens, cells, batch.grain[views].to(device))
        return view_losses(square_errors(estimate.float(), y0), 2 * batch.damage[views].to(device)).mean()

    def _sharpening_loss(self, batch: Batch, part: range) -> Tensor:
        """Mean loss of the sharpening branch on the crops of some views; where no blur is shown it is to do nothing."""
        lq, y0, _ = self._pictures(batch, part)
        grain = batch.grain[part.start : part.stop].to(self.rank.device)
        estimate = cast(Any, self.model).sharpening_estimate(lq, self._tokens(batch, part), grain)
        # A sharper picture is nearer to what was behind haze or a drop, too, but nobody asked for one there.
        asked = [bool(self.blurring.intersection(ids)) for ids in self._to_crops([batch.shown[i] for i in part])]
        y0 = y0 * torch.tensor(asked, device=y0.device)[:, None, None, None]
        # In decibels: it can do little about most damage, and what it leaves of that is not to be heard.
        before, after = ((square_errors(x, y0) + ERROR_FLOOR).log() for x in (torch.zeros_like(y0), estimate))
        return (after - before).mean()

    def _update(self, norm: Tensor) -> None:
        if self.step in (self.config.coarse_end, self.config.together_end):
            self.guard.forget()
        if self.guard.accepts(float(norm)):
            self.optimisers.step(self.config.learning_rate(self.step))
            self.ema.update(self.model, self.step)
        elif self.guard.refused >= _MOST_REFUSED:
            raise DefusionError(
                f"Training diverged: the gradients of {_MOST_REFUSED} steps in a row are infinite or far too long.",
                fix=f"--set lr={self.config.lr / 2:g}, and delete the newest checkpoint",
            )
        self.optimisers.zero_grad()

    def state(self) -> dict[str, Any]:
        """All that training goes on from; the step is the position in the stream of samples."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.shadow,
            "optimisers": self.optimisers.state_dict(),
            "rng": rng_state(),
            "balance": self.balance.state(),
            "norms": self.guard.state(),
        }

    def load_state(self, step: int, state: dict[str, Any]) -> None:
        """Go on from what `state` returned at `step`."""
        self.model.load_state_dict(state["model"])
        self.ema.shadow = {name: tensor.to(self.rank.device) for name, tensor in state["ema"].items()}
        self.optimisers.load_state_dict(state["optimisers"])
        torch.set_rng_state(state["rng"]["cpu"])
        self.balance.load_state(state["balance"])
        self.guard.load_state(state["norms"])
        self.step = step

    def pipeline(self) -> DefusionPipeline:
        """The averaged weights as a pipeline."""
        unet = make_backbone(self.config.backbone, self.config.backbone_options).to(self.rank.device)
        unet.load_state_dict(self.model.state_dict())
        self.ema.copy_to(unet)
        unet.to(memory_format=torch.channels_last)
        told = {name: getattr(self.config, name) for name in TOLD}
        together = [ids for ids in self.config.synthesis.familiar if set(ids) <= set(self.ids)]
        return DefusionPipeline(unet.eval(), self.bank.tokenizer, make_scheduler(), together=together, **told)


def _learns(name: str, learner: str) -> bool:
    """Whether a parameter is among those that learn in a training of everything together."""
    if learner == "late":
        return name.startswith("late_condition.")
    if learner == "sharpening":
        return name.startswith("sharpening.")
    return learner == "all" or not name.startswith(("coarse_branch.", "sharpening."))

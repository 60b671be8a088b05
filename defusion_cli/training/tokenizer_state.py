"""One step of the tokenizer's training, and the state it leaves behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from defusion_cli.errors import DefusionError
from defusion_cli.tokenizer.codebook import Usage, count_codes, gather_encodings, kmeans, revive, usage
from defusion_cli.tokenizer.discriminator import PatchDiscriminator
from defusion_cli.tokenizer.losses import (
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
    reconstruction_loss,
    vq_loss,
)
from defusion_cli.tokenizer.model import InstructionTokenizer, TokenizerOutput
from defusion_cli.tokenizer.statistics import (
    BLUR_SHAPE_LENGTH,
    StatisticsHead,
    WholeHead,
    blur_shape,
    cell_statistics,
)
from defusion_cli.training.launch import Rank
from defusion_cli.training.tokenizer_config import TokenizerRecipe

Perceptual = Callable[[Tensor, Tensor], Tensor]

_LARGEST = torch.finfo(torch.float16).max
_RECENT = 8192  # encodings kept for the first codebook


class _Generator(nn.Module):
    """Tokenizer and read-outs in one module, so that one DDP wrapper sees the whole forward pass."""

    def __init__(self, recipe: TokenizerRecipe, plugins: int) -> None:
        super().__init__()
        self.tokenizer = InstructionTokenizer(
            block_out_channels=recipe.block_out_channels,
            layers_per_block=recipe.layers_per_block,
            attention_levels=recipe.attention_levels,
            latent_channels=recipe.latent_channels,
            norm_num_groups=recipe.norm_num_groups,
            companding=recipe.companding,
            normalise_codes=recipe.normalise_codes,
            sees_blur_shape=recipe.sees_blur_shape,
        )
        self.statistics = StatisticsHead()
        self.presence = WholeHead(plugins)
        self.blur = WholeHead(BLUR_SHAPE_LENGTH)
        self.decode_every = recipe.decode_every

    def forward(self, instruction: Tensor, quantise: bool) -> tuple[TokenizerOutput, Tensor, Tensor, Tensor]:
        output = self.tokenizer(instruction, quantise, self.decode_every)
        codes = output.straight
        return output, self.statistics(codes), self.presence(codes), self.blur(codes)


class TokenizerTraining:
    """The state of a training run: networks, optimisers, codebook statistics and the step.

    Parameters
    ----------
    recipe
        What to compute.
    seed
        Of the initial weights and of every choice during the run.
    rank
        This process among all.
    plugins
        How many plugins are told apart.
    perceptual
        A perceptual distance of two N×3×H×W pictures in [0, 1], such as LPIPS; needed if its weight is not zero.
    """

    def __init__(
        self, recipe: TokenizerRecipe, seed: int, rank: Rank, plugins: int, perceptual: Perceptual | None = None
    ) -> None:
        self.recipe, self.seed, self.rank, self.perceptual = recipe, seed, rank, perceptual
        self.share = rank.share(recipe.batch)
        torch.manual_seed(seed)
        self.generator = _Generator(recipe, plugins).to(rank.device)
        self.discriminator = PatchDiscriminator(recipe.discriminator_channels).to(rank.device)
        for network in (self.generator, self.discriminator):
            network.to(memory_format=torch.channels_last)
        betas = (recipe.beta1, recipe.beta2)
        self.generator_adam = torch.optim.Adam(self.generator.parameters(), recipe.learning_rate, betas)
        self.discriminator_adam = torch.optim.Adam(self.discriminator.parameters(), recipe.learning_rate, betas)
        self._generator_step: nn.Module = self.generator
        self._discriminator_step: nn.Module = self.discriminator
        if rank.count > 1:
            self._generator_step = DistributedDataParallel(self.generator, find_unused_parameters=True)
            self._discriminator_step = DistributedDataParallel(self.discriminator)
        self.step = 0
        self.usage: Usage | None = None
        size, dim = self.tokenizer.codebook.shape
        self.counts = torch.zeros(size, dtype=torch.int64, device=rank.device)
        self.recent = torch.zeros(0, dim, device=rank.device)

    @property
    def tokenizer(self) -> InstructionTokenizer:
        """The network that is being trained."""
        return self.generator.tokenizer

    def train_step(self, instruction: Tensor, present: Tensor) -> dict[str, Tensor]:
        """One step of generator, discriminator and codebook; returns the losses.

        Parameters
        ----------
        instruction
            This process's N×3×H×W share of the batch, residuals in [−1, 1].
        present
            N×P, 1 for each plugin that is at work.
        """
        recipe = self.recipe
        instruction = instruction.to(self.rank.device, memory_format=torch.channels_last)
        rate = learning_rate(recipe, self.step)
        for adam in (self.generator_adam, self.discriminator_adam):
            adam.param_groups[0]["lr"] = rate
        quantise = self.step >= recipe.codebook_start
        if self.step == 0 and recipe.codebook_start:
            self._centre_encodings(instruction)
        if quantise and len(self.recent):
            self._start_codebook()
        self.discriminator.requires_grad_(False)
        with self._autocast():
            output, statistics, presence, blur = self._generator_step(instruction, quantise)
        target = self.tokenizer.compand(instruction[:: recipe.decode_every])
        losses = self._picture_losses(output.reconstruction, target)
        if recipe.statistics_weight:
            losses["statistics"] = nn.functional.mse_loss(statistics, cell_statistics(instruction))
        if recipe.presence_weight:
            wanted = present.to(self.rank.device)
            losses["presence"] = nn.functional.binary_cross_entropy_with_logits(presence, wanted)
        if recipe.blur_weight:
            losses["blur"] = nn.functional.smooth_l1_loss(blur, blur_shape(instruction))
        if quantise:
            losses["vq"] = vq_loss(output.encoding, output.codes, recipe.commitment)
        losses["total"] = self._total(losses)
        self.generator_adam.zero_grad(set_to_none=True)
        losses["total"].backward()
        self.generator_adam.step()
        if recipe.gan_weight and self.step >= recipe.gan_start:
            losses["discriminator"] = self._train_discriminator(target, output.reconstruction.detach())
        self._tend_codebook(output, quantise)
        self.step += 1
        return {name: loss.detach() for name, loss in losses.items()}

    def metrics(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """The losses of a step, averaged over all processes (which all have to call), and the codebook's usage."""
        names, together = list(losses), torch.stack([loss.float() for loss in losses.values()])
        if self.rank.count > 1:
            dist.all_reduce(together)
        values = dict(zip(names, (together / self.rank.count).tolist(), strict=True))
        if self.usage is not None:
            values |= {"codebook_share": self.usage.share, "perplexity": self.usage.perplexity}
        return values

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.rank.device.type, torch.bfloat16) if self.recipe.bf16 else nullcontext()

    def _picture_losses(self, reconstruction: Tensor, target: Tensor) -> dict[str, Tensor]:
        recipe = self.recipe
        losses = {"reconstruction": reconstruction_loss(reconstruction, target, recipe.squared_share)}
        if self.perceptual is not None and recipe.lpips_weight:
            losses["lpips"] = self.perceptual(reconstruction.clamp(-1, 1) / 2 + 0.5, target / 2 + 0.5).mean()
        if recipe.gan_weight and self.step >= recipe.gan_start:
            with self._autocast():
                verdict = self.discriminator(reconstruction)
            losses["adversarial"] = hinge_generator_loss(verdict)
        return losses

    def _total(self, losses: Mapping[str, Tensor]) -> Tensor:
        recipe = self.recipe
        total = losses["reconstruction"]
        if "lpips" in losses:
            total = total + recipe.lpips_weight * losses["lpips"]
        if "adversarial" in losses:
            last_layer = self.tokenizer.vq.decoder.conv_out.weight
            balance = adaptive_weight(total, losses["adversarial"], last_layer)
            total = total + recipe.gan_weight * balance * losses["adversarial"]
        weights = {"statistics": recipe.statistics_weight, "presence": recipe.presence_weight}
        weights |= {"blur": recipe.blur_weight, "vq": 1.0}
        return total + sum(weight * losses[name] for name, weight in weights.items() if name in losses)

    def _train_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        self.discriminator.requires_grad_(True)
        with self._autocast():
            # One pass over both, because DDP wants one forward pass a backward pass.
            of_real, of_fake = self._discriminator_step(torch.cat([real, fake])).chunk(2)
        loss = hinge_discriminator_loss(of_real, of_fake)
        self.discriminator_adam.zero_grad(set_to_none=True)
        loss.backward()
        self.discriminator_adam.step()
        return loss

    def _tend_codebook(self, output: TokenizerOutput, quantise: bool) -> None:
        """Collect encodings before the codebook starts; count its use and revive dead entries afterwards."""
        recipe = self.recipe
        if not quantise:
            self.recent = torch.cat([self.recent, gather_encodings(output.encoding)])[-_RECENT:]
            return
        self.counts += count_codes(output.indices, len(self.counts))
        if (self.step + 1) % recipe.revive_every == 0:
            self.usage = usage(self.counts)
            if self.step < recipe.revive_until * recipe.steps:
                points = gather_encodings(output.encoding)
                self._set_codebook(revive(self.tokenizer.codebook.detach(), self.counts, points, self._rng()))
            self.counts.zero_()

    @torch.no_grad()
    def _centre_encodings(self, instruction: Tensor) -> None:
        """Data-dependent start (Salimans and Kingma, NeurIPS 2016): encodings of mean zero and unit variance.

        A fresh encoder maps everything close to one vector; after normalisation its length would be all that the
        read-outs and the codebook ever see.
        """
        encoding = self.tokenizer.latents(instruction)
        everything = gather_encodings(encoding)
        mean, deviation = everything.mean(0), (everything - everything.mean(0)).square().mean().sqrt()
        projection = self.tokenizer.vq.quant_conv
        projection.weight.div_(deviation)
        projection.bias.sub_(mean).div_(deviation)

    def _start_codebook(self) -> None:
        self._set_codebook(kmeans(self.recent, len(self.counts), self._rng()))
        self.recent = self.recent[:0]

    @torch.no_grad()
    def _set_codebook(self, entries: Tensor) -> None:
        if self.rank.count > 1:  # on a GPU sums come in any order, and so may clusters
            dist.broadcast(entries, 0)
        self.tokenizer.codebook.copy_(entries)

    def _rng(self) -> np.random.Generator:
        # Streams of samples are [seed, step, i]; a fourth number keeps this one apart.
        return np.random.default_rng([self.seed, self.step, 0, 1])

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_adam": self.generator_adam.state_dict(),
            "discriminator_adam": self.discriminator_adam.state_dict(),
            "counts": self.counts,
            "recent": self.recent,
            "usage": None if self.usage is None else [self.usage.share, self.usage.perplexity],
        }

    def load_state(self, step: int, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        for name in ("generator", "discriminator", "generator_adam", "discriminator_adam"):
            getattr(self, name).load_state_dict(state[name])
        self.counts = state["counts"].to(self.rank.device)
        self.recent = state["recent"].to(self.rank.device)
        self.usage = Usage(*state["usage"]) if state.get("usage") else None
        self.step = step

    def check_finite(self) -> None:
        """Raise `DefusionError` if weights have left the range of what is exported: they never come back.

        They are the same in all processes, and so is the verdict.
        """
        # Not a number is not smaller than anything.
        if all(float(weight.detach().abs().max()) < _LARGEST for weight in self.generator.parameters()):
            return
        raise DefusionError(
            f"Training diverged: after step {self.step} there are weights that are infinite or no numbers.",
            fix=f"--set learning_rate={self.recipe.learning_rate / 2:g} --out another folder",
        )


def learning_rate(recipe: TokenizerRecipe, step: int) -> float:
    """Linear warm-up, then constant or cosine to 1 % of the rate."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    if not recipe.cosine:
        return recipe.learning_rate
    progress = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))

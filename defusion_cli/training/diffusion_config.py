"""The recipe of `defusion train`, and its presets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from defusion_cli.bounds import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Bound, all_at_least, check_bounds, within
from defusion_cli.data.synthesis import SynthesisConfig
from defusion_cli.diffusion.schedule import TRAIN_TIMESTEPS
from defusion_cli.errors import UsageError
from defusion_cli.ground import GROUND_KINDS

_LEAST_CROP_PX = 16


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one crop size and one global batch.

    Attributes
    ----------
    until
        Fraction of all steps at which the phase ends.
    crop_px
        Side of a crop.
    batch
        Crops in one step, over all processes.
    """

    until: float
    crop_px: int
    batch: int


@dataclass(frozen=True)
class DiffusionConfig:
    """Everything that decides what a training run computes.

    Attributes
    ----------
    backbone
        ``small``: our norm-free U-Net for CPUs. ``unet2d``: diffusers' ``UNet2DConditionModel`` in pixel space.
    backbone_options
        Constructor arguments that differ from the backbone's own.
    steps
        Optimiser steps.
    phases
        Crop sizes and batches over the run.
    plain_until
        Fraction of all steps in which every view shows one kind of damage and all of it is to go; mixtures, subsets
        and instructions that find nothing come after it (and already before it, while the coarse branch learns).
    coarse_steps
        Steps at the beginning, at most a fifth of all, in which the coarse branch of our backbone learns alone, from
        thumbnails of whole views. Among everything else it is not learnt at all: what a crop shows of haze is enough
        to lower the loss.
    coarse_last
        Steps at the end in which it learns alone again, up to all of them. In the others it is shown few views a
        step, the fewer the larger the crops are.
    coarse_views
        Views in each of these steps.
    coarse_lr
        Peak learning rate in the first of these stretches, falling to zero at its end as `lr` does in the last;
        Muon's follows in proportion.
    lr, lr_min
        Peak and final learning rate.
    warmup
        Steps of linear rise to `lr`.
    hold
        Fraction of the steps at `lr` before the cosine fall; 0 is a plain cosine. While it is held, `steps` can
        still be changed on resuming.
    betas, weight_decay
        AdamW.
    muon_lr
        Peak rate of Muon for the inner convolutions (see `defusion_cli.training.optimiser`); 0 is AdamW for all.
    muon_decay
        Muon's weight decay. Without it the kernels grow for as long as they learn, at high rates until single views
        make the norm-free network explode.
    grad_clip
        Largest norm of the gradient.
    ema_decay
        Of the averaged weights that are validated and exported.
    pure_noise_share
        Share of samples at t = T, where the one-step estimate lives.
    own_share
        Of the others, the share whose y_t is made of the network's own one-step estimate instead of the truth. This
        is what it meets when it restores in several steps; of the truth it learns to trust y_t more than it may then.
    own_steps
        Steps of its own that lead to such a y_t, at most. With 1 the estimate at t = T leads to any t; with more it
        restores in 2 … own_steps + 1 steps, all as likely, up to one of them.
    perceptual_weight
        Weight of LPIPS (AlexNet) between restored and true crop at t < T, so that one step gives the least-squares
        estimate and further steps a natural look. Needs ``defusion[score]``.
    learns
        ``all``: the whole network. ``trunk``: all but the coarse and the sharpening branch of our backbone, which learn
        only where they learn alone and stay as good as they became there: with the rest, the sharpening branch came to
        change haze as well, of which a clean photograph lost a decibel. ``late``: only what our backbone with the
        option `late` hears at t < T, on samples with t < T: a finished model (``--init-from``) learns how further steps
        are to look, and one step stays what it is, bit by bit.
        ``sharpening``: the sharpening branch alone, option `sharpen` of our backbone.
    loss
        ``balanced``: as ``relative``, over what is usual for the kind of damage, so that all are heard alike in dB
        (`defusion_cli.training.balance`).
        ``relative``: mean square error of a crop over the root mean square of the damage in its view, so that faint
        damage (JPEG, blur, noise) is heard beside strong (haze, rain), and the crops of a view weigh what they weigh
        in the PSNR of the whole: with the root of the error instead, large flakes of snow were never taken away.
        ``psnr``: log of the mean square error, which weighs all damage alike too, but makes a fresh network afraid
        of removing anything, because crops without shown damage outweigh all others.
        ``mse``: mean square error of y₀, the paper's.
    untouched_weight
        Of the mean absolute change of pixels that the damage left alone, for the losses ``balanced`` and ``relative``,
        beside the mean square error, where only sparse damage is shown (`Degradation.sparse`). A square alone hardly
        hears that all of a picture is changed by one or two of 255 levels because there are drops on a part of it.
        Noise and JPEG leave pixels alone by accident: to leave these alone is to leave faint noise everywhere.
    damage_scale, refinement, faint_refinement
        See `DefusionPipeline`.
    ground_kind
        Visual ground of the instructions: ``visual``, ``simple``, ``blank``.
    instruction_slots
        Instructions kept for every degradation.
    micro_batch
        Crops that a process handles at once; 0 is all of its share. Smaller saves memory, not time.
    validate_every, save_every, log_every
        In steps.
    seed
        Of weights, data and noise.
    plugins
        Degradations to train; empty means all that are installed.
    synthesis
        How samples are made.
    workers
        Data-loader processes, each.
    """

    backbone: str = "small"
    backbone_options: dict[str, object] = field(default_factory=dict)
    steps: int = 6200
    phases: tuple[Phase, ...] = (Phase(0.68, 64, 32), Phase(0.85, 96, 16), Phase(1.0, 128, 8))
    plain_until: float = 0.3
    coarse_steps: int = 0
    coarse_last: int = 0
    coarse_views: int = 64
    coarse_lr: float = 1.5e-3
    lr: float = 3e-4
    lr_min: float = 1e-6
    warmup: int = 200
    hold: float = 0.5
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-4
    muon_lr: float = 0.002
    muon_decay: float = 0.0
    grad_clip: float = 1.0
    ema_decay: float = 0.999
    pure_noise_share: float = 0.85
    own_share: float = 0.0
    own_steps: int = 1
    perceptual_weight: float = 0.0
    learns: str = "all"
    loss: str = "balanced"
    untouched_weight: float = 0.0
    damage_scale: float = 3.0
    refinement: Mapping[str, float] = field(default_factory=dict)
    faint_refinement: Mapping[str, float] = field(default_factory=dict)
    ground_kind: str = "visual"
    instruction_slots: int = 64
    micro_batch: int = 0
    validate_every: int = 1000
    save_every: int = 250
    log_every: int = 25
    seed: int = 0
    plugins: tuple[str, ...] = ()
    synthesis: SynthesisConfig = SynthesisConfig()
    workers: int = 1

    def __post_init__(self) -> None:
        check_bounds("training", self, self._bounds())
        self._check_phases()
        if self.loss not in LOSSES:
            raise UsageError("There is no such loss.", found=self.loss, accepted=", ".join(LOSSES))
        if self.backbone not in BACKBONES:
            raise UsageError("There is no such backbone.", found=self.backbone, accepted=", ".join(BACKBONES))
        alone = self.coarse_steps or self.coarse_last
        if alone and not (self.backbone == "small" and self.backbone_options.get("coarse")):
            raise UsageError(
                "There is no coarse branch that could learn alone.",
                found=f"coarse_steps {self.coarse_steps}, coarse_last {self.coarse_last}",
                fix="--set coarse_steps=0 --set coarse_last=0, "
                "or --set backbone_options.coarse=true with the small backbone",
            )
        if self.learns not in LEARNERS:
            raise UsageError("There is no such part.", found=self.learns, accepted=", ".join(LEARNERS))
        if self.learns == "late" and not (self.backbone == "small" and self.backbone_options.get("late")):
            raise UsageError(
                "There is nothing that only later steps hear.",
                found="learns = late",
                fix="--set backbone_options.late=true with the small backbone",
            )
        if self.learns == "sharpening" and not (self.backbone == "small" and self.backbone_options.get("sharpen")):
            raise UsageError(
                "There is no sharpening branch that could learn.",
                found="learns = sharpening",
                fix="--set backbone_options.sharpen=true with the small backbone",
            )

    def _bounds(self) -> list[Bound]:
        parts = {"refinement": self.refinement, "faint_refinement": self.faint_refinement}
        shares = ("plain_until", "hold", "pure_noise_share", "own_share")
        not_negative = ["coarse_steps", "coarse_last", "warmup", "lr_min", "weight_decay", "muon_lr", "muon_decay"]
        not_negative += ["perceptual_weight", "untouched_weight", "micro_batch", "seed", "workers"]
        counts = ("steps", "coarse_views", "instruction_slots", "validate_every", "save_every", "log_every")
        betas = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        return [
            *((name, within(0, getattr(self, name), 1), SHARE) for name in shares),
            *((name, getattr(self, name) >= 0, NOT_NEGATIVE) for name in not_negative),
            *((name, getattr(self, name) >= 1, COUNT) for name in counts),
            *((name, getattr(self, name) > 0, POSITIVE) for name in ("lr", "coarse_lr", "grad_clip", "damage_scale")),
            *((name, all_at_least(0, factors), "numbers, 0 or more") for name, factors in parts.items()),
            ("betas", betas, "two numbers, 0 or more, below 1"),
            ("ema_decay", 0 <= self.ema_decay < 1, "0 or more, below 1"),
            ("own_steps", 1 <= self.own_steps < TRAIN_TIMESTEPS, f"1 to {TRAIN_TIMESTEPS - 1}"),
            ("ground_kind", self.ground_kind in GROUND_KINDS, ", ".join(GROUND_KINDS)),
        ]

    def _check_phases(self) -> None:
        ends = [phase.until for phase in self.phases]
        if not ends or ends[-1] < 1 or ends != sorted(ends):
            raise UsageError(
                "The phases must follow one another, and the last must end at 1.",
                found=_written(self.phases) or "none",
                accepted="crops of 64 px, 32 at a time, up to 0.6 of the steps, and so on: 64x32@0.6,192x8@1",
                fix="--set phases=64x32@0.6,192x8@1",
            )
        each, view = self.synthesis.crops_per_view, self.synthesis.view_px
        for phase in self.phases:
            if not _LEAST_CROP_PX <= phase.crop_px <= view:
                raise UsageError(
                    "Crops of this size cannot be cut from a view.",
                    found=f"crops of {phase.crop_px} px, views of {view} px",
                    accepted=f"{_LEAST_CROP_PX} to {view} px",
                    fix="--set phases=… or --set synthesis.view_px=…",
                )
            if phase.batch % each:
                raise UsageError(
                    "A batch must be a multiple of the crops cut from a view.",
                    found=f"batch {phase.batch}, {each} crops per view",
                    fix=f"--set batch={each * max(1, phase.batch // each)}",
                )

    def phase(self, step: int) -> Phase:
        """The phase that `step` (from 0) belongs to."""
        return next((p for p in self.phases if step < p.until * self.together_end), self.phases[-1])

    def crop_px(self, step: int) -> int:
        """Side of the crops at a step."""
        return self.phase(step).crop_px

    def is_plain(self, step: int) -> bool:
        """Whether a step still belongs to the plain beginning."""
        return self.coarse_end <= step < self.plain_until * self.together_end

    @property
    def coarse_end(self) -> int:
        """The step from which on everything learns."""
        return min(self.coarse_steps if self.learns != "late" else 0, self.together_end // 5)

    @property
    def together_end(self) -> int:
        """The step from which on only the coarse branch learns."""
        return max(0, self.steps - (self.coarse_last if self.learns != "late" else 0))

    def is_coarse(self, step: int) -> bool:
        """Whether only the coarse branch learns at a step."""
        return step < self.coarse_end or self.together_end <= step < self.steps

    def synthesis_at(self, step: int) -> SynthesisConfig:
        """How the damage of a step is drawn."""
        if self.is_coarse(step):
            return self.synthesis.coarse()
        return self.synthesis.plain() if self.is_plain(step) else self.synthesis

    def views(self, step: int) -> int:
        """Views in the global batch of a step."""
        if self.is_coarse(step):
            return self.coarse_views
        return self.phase(step).batch // self.synthesis.crops_per_view

    def check_shares(self, processes: int) -> None:
        """Raise a `UsageError` if so many processes cannot share the views of every step equally."""
        crops = processes * self.synthesis.crops_per_view
        alone = bool(self.coarse_steps or self.coarse_last)
        if any(phase.batch % crops for phase in self.phases) or (alone and self.coarse_views % processes):
            batches = [(phase, _next_multiple(phase.batch, crops)) for phase in self.phases]
            phases = _written([replace(phase, batch=batch) for phase, batch in batches])
            views = f" --set coarse_views={_next_multiple(self.coarse_views, processes)}" if alone else ""
            raise UsageError(
                f"{processes} processes cannot share the batches of this recipe equally.",
                found=", ".join(f"{phase.batch} crops of {phase.crop_px} px" for phase in self.phases)
                + (f", {self.coarse_views} views for the coarse branch" if alone else ""),
                accepted=f"multiples of {crops} crops, as {self.synthesis.crops_per_view} are cut from a view",
                fix=f"--set phases={phases}{views}",
            )

    def learning_rate(self, step: int) -> float:
        """Linear rise, hold, cosine fall; before and after it the same for the coarse branch alone, without hold."""
        if self.is_coarse(step):
            first = step < self.coarse_end
            begin, end = (0, self.coarse_end) if first else (self.together_end, self.steps)
            progress = (step - begin) / (end - begin)
            rise = min(1.0, 20 * (progress + 1 / (end - begin)))
            return (self.coarse_lr if first else self.lr) * rise * 0.5 * (1 + math.cos(math.pi * progress))
        if step - self.coarse_end < self.warmup:
            return self.lr * (step - self.coarse_end + 1) / self.warmup
        start = max(self.coarse_end + self.warmup, self.hold * self.together_end)
        if step < start:
            return self.lr
        progress = min(1.0, (step - start) / max(1.0, self.together_end - start))
        return self.lr_min + (self.lr - self.lr_min) * 0.5 * (1 + math.cos(math.pi * progress))


LOSSES = ("balanced", "relative", "psnr", "mse")
BACKBONES = ("small", "unet2d")
LEARNERS = ("all", "trunk", "late", "sharpening")

_PAPER_UNET: dict[str, object] = {
    "block_out_channels": (192, 384, 576, 768),
    "layers_per_block": 3,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 256,
    "attention_head_dim": 64,
}


def _written(phases: Sequence[Phase]) -> str:
    """As ``--set phases=`` reads them."""
    return ",".join(f"{phase.crop_px}x{phase.batch}@{phase.until:g}" for phase in phases)


def _next_multiple(number: int, of: int) -> int:
    return -(-number // of) * of


_DEFAULT = DiffusionConfig(
    backbone_options={"output_heads": 8, "coarse": True, "grain": True, "late": True, "sharpen": True}
    | {"blocks": (2, 2, 2, 1), "experts": (4, 3)},
    steps=8000,
    coarse_steps=1500,
    phases=(Phase(0.5, 64, 32), Phase(0.75, 96, 16), Phase(0.9, 128, 8), Phase(1.0, 192, 4)),
    plain_until=0.3,
    lr=5e-4,
    muon_lr=0.004,
    muon_decay=0.1,
    hold=0.3,
    pure_noise_share=0.82,
    own_share=0.8,
    learns="trunk",
    untouched_weight=0.5,
    refinement={"haze": 0.0, "low-light": 0.0, "underwater": 0.3, "raindrop": 1.15},
    faint_refinement={"noise": 1.4},
    synthesis=SynthesisConfig(
        view_px=320,
        crops_per_view=2,
        mixture_share=0.2,
        familiar_mixtures={"rain+snow+noise": 0.3},  # the supplement's mixed set
        absent_share=0.1,
        blind_share=0.05,
        recolour=1.0,
        turned_share=0.25,
        # Darkness and water change every pixel by much and are soon learnt; grain, flakes and blocks take longest.
        emphasis={"noise": 3.0, "snow": 2.5, "jpeg": 2.5, "motion-blur": 1.7, "haze": 1.3, "rain": 1.3}
        | {"raindrop": 2.5, "underwater": 0.6, "low-light": 0.5},
    ),
)

PRESETS: dict[str, DiffusionConfig] = {
    "default": _DEFAULT,
    # Before it: the branch that undoes blur, alone.
    "sharpening": replace(
        _DEFAULT,
        learns="sharpening",
        steps=1500,
        coarse_steps=0,
        phases=(Phase(1.0, 128, 32),),
        plain_until=0.0,
        lr=4e-3,
        muon_lr=0.0,
        warmup=20,
        hold=0.4,
        weight_decay=0.0,
        ema_decay=0.98,
        synthesis=replace(
            _DEFAULT.synthesis,
            mixture_share=0.1,
            absent_share=0.03,
            emphasis={"motion-blur": 16.0, "defocus-blur": 10.0},
        ),
    ),
    # After it, with --init-from: what more steps than one are for.
    "later-steps": replace(
        _DEFAULT,
        learns="late",
        steps=300,
        phases=(Phase(1.0, 96, 16),),
        plain_until=0.0,
        lr=3e-3,
        warmup=10,
        weight_decay=0.0,
        ema_decay=0.97,
        own_share=1.0,
        own_steps=7,
        perceptual_weight=20.0,
        synthesis=replace(
            _DEFAULT.synthesis,
            absent_share=0.05,
            emphasis={"snow": 2.0, "noise": 2.0, "jpeg": 2.0, "raindrop": 2.0, "low-light": 0.3, "underwater": 0.3},
        ),
    ),
    # Supplement section 8: AdamW, β = (0.9, 0.99), batch 32, 1e-4 → 1e-6 by cosine annealing, 256×256 random crops,
    # 600 000 iterations on eight A100. Instruction dropout p = 0.1 is the default of `SynthesisConfig`; the paper
    # names no mixtures or absent damage in training, and neither does this preset.
    "paper": DiffusionConfig(
        backbone="unet2d",
        backbone_options=_PAPER_UNET,
        steps=600_000,
        phases=(Phase(1.0, 256, 32),),
        plain_until=0.0,
        lr=1e-4,
        lr_min=1e-6,
        warmup=0,
        hold=0.0,
        weight_decay=0.01,
        muon_lr=0.0,
        ema_decay=0.9999,
        pure_noise_share=0.0,
        loss="mse",
        damage_scale=1.0,
        instruction_slots=1024,
        validate_every=10_000,
        save_every=1000,
        log_every=100,
        synthesis=SynthesisConfig(
            view_px=256, crops_per_view=1, downscale=(1.0, 1.0), mixture_share=0.0, subset_share=0.0, absent_share=0.0
        ),
        workers=8,
    ),
}

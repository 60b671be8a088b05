"""The settings of a recogniser training; the default values made the network that this package ships."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from defusion_cli.data.recognition import RecognitionConfig
from defusion_cli.errors import UsageError


@dataclass(frozen=True)
class RecogniserRecipe:
    """Everything that decides what a training run computes.

    Attributes
    ----------
    widths, hidden, threshold
        See `defusion_cli.recognition.DegradationRecogniser`.
    steps
        Optimiser steps.
    photos
        Photographs in a step; each gives ``samples.views_per_photo`` views.
    lr, lr_min, warmup, hold
        Peak and final learning rate, steps of linear rise, and the fraction of the steps before the cosine fall.
        While it is held, `steps` can still be changed on resuming.
    weight_decay, grad_clip, ema_decay
        AdamW, the largest norm of the gradient, and the average of the weights that is scored and exported.
    log_every, checkpoint_every
        In steps.
    check_photos
        Validation photographs that are looked at, at most.
    samples
        How views are drawn.
    """

    widths: tuple[int, ...] = (64, 96)
    hidden: int = 128
    threshold: float = 0.5
    steps: int = 1200
    photos: int = 4
    lr: float = 1.5e-3
    lr_min: float = 1e-5
    warmup: int = 100
    hold: float = 0.4
    weight_decay: float = 1e-3
    grad_clip: float = 1.0
    ema_decay: float = 0.995
    log_every: int = 25
    checkpoint_every: int = 100
    check_photos: int = 24
    samples: RecognitionConfig = field(default_factory=RecognitionConfig)

    def check(self) -> None:
        """Raise a `UsageError` for a value out of range."""
        samples = self.samples
        bounds = [
            ("steps", self.steps >= 1, "1 or more"),
            ("photos", self.photos >= 1, "1 or more"),
            ("lr", self.lr > 0, "above 0"),
            ("threshold", 0 < self.threshold < 1, "above 0, below 1"),
            ("log_every", self.log_every >= 1, "1 or more"),
            ("checkpoint_every", self.checkpoint_every >= 1, "1 or more"),
            ("samples.crop_px", samples.crop_px >= 32 and samples.crop_px % 8 == 0, "a multiple of 8 from 32"),
            ("samples.view_px", samples.view_px >= samples.crop_px, f"samples.crop_px ({samples.crop_px}) or more"),
            ("samples.crops", samples.crops >= 1, "1 or more"),
            ("samples.views_per_photo", samples.views_per_photo >= 1, "1 or more"),
            ("samples.clean_share", 0 <= samples.clean_share <= 1 - samples.mixture_share, "0 to 1 in all"),
        ]
        for name, fine, accepted in bounds:
            if not fine:
                raise UsageError(
                    f"The setting {name} of the recogniser training is out of range.",
                    accepted=accepted,
                    fix=f"--set {name}=…",
                )

    def learning_rate(self, step: int) -> float:
        """Linear rise, hold, cosine fall."""
        start = max(self.warmup, self.hold * self.steps)
        if step < start:
            return self.lr * min(1.0, (step + 1) / max(1, self.warmup))
        progress = min(1.0, (step - start) / max(1.0, self.steps - start))
        return self.lr_min + (self.lr - self.lr_min) * 0.5 * (1 + math.cos(math.pi * progress))

"""The settings of a recogniser training; the default values made the network that this package ships."""

from __future__ import annotations

from dataclasses import dataclass, field

from defusion_cli.data.recognition import RecognitionConfig
from defusion_cli.errors import UsageError


@dataclass(frozen=True)
class RecogniserRecipe:
    """Everything that decides what a training run computes.

    Attributes
    ----------
    hidden, dropout, threshold, companion
        See `defusion_cli.recognition.DegradationRecogniser`.
    shards, photos
        The views are drawn and described in so many shards of so many photographs each, kept as they are finished.
    epochs, batch
        Of the fit to all views.
    lr, weight_decay
        Of AdamW; the rate falls to zero by a cosine.
    jitter
        Noise on the features, in standard deviations.
    check_photos
        Validation photographs that are looked at, at most.
    samples
        How views are drawn.
    """

    hidden: tuple[int, ...] = (160, 96)
    dropout: float = 0.4
    threshold: float = 0.2
    companion: float = 0.2
    shards: int = 280
    photos: int = 16
    epochs: int = 25
    batch: int = 128
    lr: float = 2e-3
    weight_decay: float = 0.2
    jitter: float = 0.2
    check_photos: int = 24
    samples: RecognitionConfig = field(default_factory=RecognitionConfig)

    def check(self) -> None:
        """Raise a `UsageError` for a value out of range."""
        samples = self.samples
        bounds = [
            ("shards", self.shards >= 1, "1 or more"),
            ("photos", self.photos >= 1, "1 or more"),
            ("lr", self.lr > 0, "above 0"),
            ("threshold", 0 < self.threshold < 1, "above 0, below 1"),
            ("companion", 0 < self.companion <= self.threshold, f"above 0, at most the threshold ({self.threshold})"),
            ("epochs", self.epochs >= 1, "1 or more"),
            ("batch", self.batch >= 1, "1 or more"),
            ("samples.crop_px", samples.crop_px >= 64 and samples.crop_px % 64 == 0, "a multiple of 64"),
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

"""The settings of a recogniser training; the default values made the network that this package ships."""

from __future__ import annotations

from dataclasses import dataclass, field

from defusion_cli.bounds import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, check_bounds, is_range, within
from defusion_cli.data.recognition import RecognitionConfig


@dataclass(frozen=True)
class RecogniserRecipe:
    """Everything that decides what a training run computes.

    Attributes
    ----------
    hidden, dropout, threshold, companion
        See `defusion_cli.recognition.DegradationRecogniser`.
    shards, photos
        The views are drawn and described in so many shards of so many photographs each, kept as they are finished.
    workers
        Processes that do so; 0 for none beside this one. The views are the same.
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
    shards: int = 400
    photos: int = 16
    workers: int = 1
    epochs: int = 40
    batch: int = 128
    lr: float = 2e-3
    weight_decay: float = 0.2
    jitter: float = 0.2
    check_photos: int = 24
    samples: RecognitionConfig = field(default_factory=RecognitionConfig)

    def check(self) -> None:
        """Raise a `UsageError` for values out of range."""
        samples = self.samples
        bounds = [
            ("hidden", bool(self.hidden) and min(self.hidden) >= 1, "numbers, 1 or more"),
            ("dropout", 0 <= self.dropout < 1, "0 or more, below 1"),
            ("weight_decay", self.weight_decay >= 0, NOT_NEGATIVE),
            ("jitter", self.jitter >= 0, NOT_NEGATIVE),
            ("check_photos", self.check_photos >= 0, NOT_NEGATIVE),
            ("shards", self.shards >= 1, COUNT),
            ("photos", self.photos >= 1, COUNT),
            ("workers", self.workers >= 0, NOT_NEGATIVE),
            ("lr", self.lr > 0, POSITIVE),
            ("threshold", 0 < self.threshold < 1, "above 0, below 1"),
            ("companion", 0 < self.companion <= self.threshold, f"above 0, at most the threshold ({self.threshold})"),
            ("epochs", self.epochs >= 1, COUNT),
            ("batch", self.batch >= 1, COUNT),
            ("samples.crop_px", samples.crop_px >= 64 and samples.crop_px % 64 == 0, "a multiple of 64"),
            ("samples.view_px", samples.view_px >= samples.crop_px, f"samples.crop_px ({samples.crop_px}) or more"),
            ("samples.crops", samples.crops >= 1, COUNT),
            ("samples.views_per_photo", samples.views_per_photo >= 1, COUNT),
            ("samples.downscale", is_range(samples.downscale), "two numbers, rising, above 0"),
            ("samples.severity", is_range(samples.severity) and samples.severity[1] <= 1,
             "two numbers, rising, above 0, at most 1"),
            ("samples.gamma", is_range(samples.gamma), "two numbers, rising, above 0"),
            *((f"samples.faintest.{name}", within(0, least, samples.severity[1]),
               f"0 to the upper end of samples.severity ({samples.severity[1]})")
              for name, least in samples.faintest.items()),
            *((f"samples.{name}", getattr(samples, name) >= 0, NOT_NEGATIVE) for name in ("grain", "sharpened")),
            ("samples.soft_px", samples.soft_px >= 0.1, "0.1 or more"),
            ("samples.saved_quality", 1 <= samples.saved_quality <= 100, "1 to 100"),
            *((f"samples.{name}", within(0, getattr(samples, name), 0.5), "0 to 0.5")
              for name in ("black", "white", "tint")),
            *((f"samples.{name}", within(0, share, 1), SHARE)
              for name, share in vars(samples).items() if name.endswith("_share")),
            ("samples.clean_share", 0 <= samples.clean_share <= 1 - samples.mixture_share, "0 to 1 in all"),
        ]  # fmt: skip
        check_bounds("recogniser training", self, bounds)

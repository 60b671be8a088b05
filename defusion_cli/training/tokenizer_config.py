"""The settings of a tokenizer training, and its two presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from defusion_cli.bounds import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, all_at_least, check_bounds, within
from defusion_cli.errors import UsageError
from defusion_cli.training.settings import values_of


@dataclass(frozen=True)
class TokenizerRecipe:
    """Everything that decides what a training run computes; the default values are the `default` preset."""

    # The network.
    block_out_channels: tuple[int, ...] = (16, 32, 64, 96, 128)
    layers_per_block: int = 1
    attention_levels: int = 0
    latent_channels: int = 128
    norm_num_groups: int = 4
    companding: float = 0.5
    normalise_codes: bool = True
    sees_blur_shape: bool = True
    discriminator_channels: int = 16
    # The data.
    ground_px: int = 224
    crop_px: int = 128
    clean_share: float = 0.03
    mixture_share: float = 0.2
    # How often a plugin is drawn, relative to the others (1).
    emphasis: Mapping[str, float] = field(default_factory=dict)
    # Optimisation.
    steps: int = 1600
    batch: int = 24
    learning_rate: float = 1e-3
    beta1: float = 0.5
    beta2: float = 0.9
    warmup_steps: int = 50
    cosine: bool = True
    bf16: bool = True
    # The losses.
    squared_share: float = 0.5
    commitment: float = 1.0
    gan_weight: float = 0.8
    gan_start: int = 1450
    lpips_weight: float = 0.0
    statistics_weight: float = 1.0
    presence_weight: float = 1.0
    blur_weight: float = 1.0
    # The decoder costs three times as much as the encoder: it may see every so manyth sample only.
    decode_every: int = 6
    # The codebook.
    codebook_start: int = 100
    revive_every: int = 25
    revive_until: float = 0.7
    # Housekeeping.
    log_every: int = 25
    checkpoint_every: int = 200
    picture_every: int = 200
    # Instructions of each plugin that the closing probe is fitted to, and tested on.
    probe_counts: tuple[int, int] = (300, 100)

    def check(self) -> None:
        """Raise a `UsageError` for values out of range; once all are set, since some bound one another."""
        divisor = max(8, 2 ** (len(self.block_out_channels) - 1))
        groups = self.norm_num_groups
        grouped = groups >= 1 and bool(self.block_out_channels) and min(self.block_out_channels) >= 1
        weights = [name for name in values_of(self) if name.endswith("_weight")]
        bounds = [
            ("block_out_channels", grouped and not any(width % groups for width in self.block_out_channels),
             f"multiples of norm_num_groups ({groups})"),
            ("norm_num_groups", groups >= 1, COUNT),
            ("latent_channels", self.latent_channels >= 1, COUNT),
            ("layers_per_block", self.layers_per_block >= 1, COUNT),
            ("discriminator_channels", self.discriminator_channels >= 1, COUNT),
            ("attention_levels", 0 <= self.attention_levels <= len(self.block_out_channels), "0 to all levels"),
            ("crop_px", divisor <= self.crop_px <= self.ground_px and self.crop_px % divisor == 0,
             f"a multiple of {divisor} from {divisor} to ground_px ({self.ground_px})"),
            ("steps", self.steps >= 1, COUNT),
            ("batch", self.batch >= 1, COUNT),
            ("companding", 0 < self.companding <= 1, "above 0, at most 1"),
            ("learning_rate", self.learning_rate > 0, POSITIVE),
            ("beta1", 0 <= self.beta1 < 1, "0 or more, below 1"),
            ("beta2", 0 <= self.beta2 < 1, "0 or more, below 1"),
            ("warmup_steps", self.warmup_steps >= 0, NOT_NEGATIVE),
            ("mixture_share", within(0, self.mixture_share, 1), SHARE),
            ("clean_share", self.clean_share >= 0 and self.clean_share + self.mixture_share <= 1, "0 to 1 in all"),
            ("emphasis", all_at_least(0, self.emphasis), "numbers, 0 or more"),
            ("squared_share", within(0, self.squared_share, 1), SHARE),
            ("commitment", self.commitment >= 0, NOT_NEGATIVE),
            *((name, getattr(self, name) >= 0, NOT_NEGATIVE) for name in weights),
            ("decode_every", 1 <= self.decode_every <= self.batch, f"1 to the batch ({self.batch})"),
            ("codebook_start", self.codebook_start >= 0, NOT_NEGATIVE),
            ("revive_until", within(0, self.revive_until, 1), SHARE),
            *((name, getattr(self, name) >= 1, COUNT)
              for name in ("log_every", "checkpoint_every", "picture_every", "revive_every")),
            ("probe_counts", len(self.probe_counts) == 2 and min(self.probe_counts) >= 1, "two numbers, 1 or more"),
        ]  # fmt: skip
        check_bounds("tokenizer training", self, bounds)


PRESETS = {
    "default": TokenizerRecipe(),
    # Supplement section 8. The number of steps and the start of the adversary are not published: the start is that
    # of taming-transformers' ImageNet configuration, the steps are ours.
    "paper": TokenizerRecipe(
        block_out_channels=(128, 128, 256, 256, 512),
        layers_per_block=2,
        attention_levels=2,
        latent_channels=256,
        norm_num_groups=32,
        normalise_codes=False,
        sees_blur_shape=False,
        discriminator_channels=64,
        ground_px=256,
        crop_px=224,
        steps=500_000,
        batch=8,
        learning_rate=4.5e-6,
        warmup_steps=0,
        cosine=False,
        squared_share=0.0,
        gan_start=250_001,
        codebook_start=0,
        statistics_weight=0.0,
        presence_weight=0.0,
        blur_weight=0.0,
        decode_every=1,
        log_every=100,
        checkpoint_every=5000,
        picture_every=5000,
    ),
}
"""`default` is what this package ships and trains on a CPU in minutes; `paper` is the published recipe."""


def preset(name: str) -> TokenizerRecipe:
    """A preset by name.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in PRESETS:
        raise UsageError(
            "There is no such tokenizer preset.", found=name, accepted=", ".join(PRESETS), fix="--preset default"
        )
    return PRESETS[name]

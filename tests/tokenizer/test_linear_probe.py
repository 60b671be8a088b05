"""The linear probe: right on separable data, at chance on noise."""

from __future__ import annotations

from collections.abc import Callable

import torch

from defusion_cli.plugins import installed_plugins
from defusion_cli.tokenizer import InstructionTokenizer
from defusion_cli.tokenizer.probe import classify, draw_probe_samples, linear_probe


def _features(separation: float, count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % 3
    centres = torch.eye(3, 8) * separation
    return centres[labels] + torch.randn(count, 8, generator=generator), labels


def test_separable_classes_are_told_apart() -> None:
    result = classify(_features(20.0), _features(20.0, 30), ["a", "b", "c"])
    assert result.accuracy == 1
    assert result.recall == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert result.confusion.tolist() == [[10, 0, 0], [0, 10, 0], [0, 0, 10]]


def test_noise_is_at_chance() -> None:
    assert classify(_features(0.0, 300), _features(0.0, 150), ["a", "b", "c"]).accuracy < 0.5


def test_samples_are_reproducible_and_each_on_a_ground_of_its_own() -> None:
    plugins = installed_plugins()
    first, labels = draw_probe_samples(["noise", "rain"], plugins, 2, seed=3)
    again, _ = draw_probe_samples(["noise", "rain"], plugins, 2, seed=3)
    assert first.shape == (4, 3, 224, 224)
    assert labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


def test_even_a_random_encoder_tells_haze_from_noise(tiny: Callable[..., InstructionTokenizer]) -> None:
    result = linear_probe(tiny(), ["haze", "noise"], installed_plugins(), counts=(6, 3))
    assert result.confusion.sum() == 6
    assert result.accuracy > 0.8

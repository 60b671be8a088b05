"""Instructions: named, by example, none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from defusion_cli.diffusion import DefusionPipeline
from defusion_cli.errors import UsageError
from defusion_cli.ground import named_residuals
from defusion_cli.plugins import installed_plugins
from defusion_cli.recognition import Recognition
from defusion_cli.restore.instruction import INSTRUCTION_PX, UNKNOWN, Instructor


def test_named_instructions_repeat_and_differ(pipeline: DefusionPipeline) -> None:
    instructor = Instructor(pipeline, installed_plugins())
    snow = instructor.named(["snow"])
    assert snow.shape == (1, 196, 256)
    assert instructor.named(["snow"]) is snow
    assert torch.equal(snow, Instructor(pipeline, installed_plugins()).named(["snow"]))
    assert not torch.equal(snow, instructor.named(["noise"]))
    ((blind, nature),) = instructor.blind()
    assert not torch.equal(snow, blind) and nature == UNKNOWN


def test_damage_of_two_styles_is_shown_in_both(pipeline: DefusionPipeline) -> None:
    assert Instructor(pipeline, installed_plugins()).named(["rain"]).shape == (1, 392, 256)


def test_a_mixture_has_no_order_and_is_shown_on_many_grounds(pipeline: DefusionPipeline) -> None:
    instructor = Instructor(pipeline, installed_plugins())
    assert torch.equal(instructor.named(["noise", "rain"]), instructor.named(["rain", "noise", "rain"]))
    assert instructor.named(["noise", "rain"]).shape == (1, 12 * 196, 256)
    assert torch.equal(
        instructor.named(["noise", "rain"]), pipeline.encode_names(["rain", "noise"], installed_plugins())
    )


def test_more_grounds_give_more_tokens(pipeline: DefusionPipeline) -> None:
    assert Instructor(pipeline, installed_plugins(), grounds=2).named(["snow"]).shape == (1, 392, 256)


def test_grounds_with_other_numbers_differ() -> None:
    a, b = named_residuals(["snow"], installed_plugins(), 2)
    assert a.shape == (INSTRUCTION_PX, INSTRUCTION_PX, 3) and not np.array_equal(a, b)
    np.testing.assert_array_equal(named_residuals(["snow"], installed_plugins()), a[None])


def test_an_unknown_degradation_suggests(pipeline: DefusionPipeline) -> None:
    with pytest.raises(UsageError, match="did you mean snow"):
        Instructor(pipeline, installed_plugins()).named(["snwo"])


def test_of_blurs_that_were_recognised_beside_other_damage_one_is_undone(pipeline: DefusionPipeline) -> None:
    instructor = Instructor(pipeline, installed_plugins())

    def asked(**probabilities: float) -> tuple[str, ...]:
        named = ((name.replace("_", "-"), value) for name, value in probabilities.items())
        return instructor.recognised(Recognition(tuple(named), threshold=0.2, companion=0.2))

    assert asked(rain=0.9, defocus_blur=0.6, motion_blur=0.3, noise=0.1) == ("rain", "defocus-blur")
    assert asked(rain=0.9, defocus_blur=0.4, motion_blur=0.3) == ("rain",)
    assert asked(motion_blur=0.4, defocus_blur=0.3, noise=0.1) == ("motion-blur", "defocus-blur")
    assert asked(motion_blur=0.9, defocus_blur=0.6, noise=0.1) == ("motion-blur", "defocus-blur")
    assert asked(motion_blur=0.1, noise=0.05) == ()

"""Mixtures that a model was taught as such are removed in one go, and its folder says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import copy_with_index

from defusion_cli.diffusion.pipeline import DefusionPipeline
from defusion_cli.errors import DataError
from defusion_cli.plugins import installed_plugins
from defusion_cli.restore.instruction import Instruction, Instructor
from defusion_cli.restore.model import load_pipeline


@pytest.fixture
def instructor(model_folder: Path, tmp_path: Path) -> Instructor:
    together = [["noise", "rain", "snow"], ["snow", "jpeg"], ["haze", "underwater"]]
    return Instructor(
        load_pipeline(str(copy_with_index(model_folder, tmp_path / "model", together=together))), installed_plugins()
    )


@pytest.mark.parametrize(
    ("ids", "parts"),
    [
        (["snow", "noise", "rain"], [["rain", "snow", "noise"]]),
        (["snow", "noise"], [["noise"], ["snow"]]),
        (["snow", "jpeg"], [["jpeg", "snow"]]),
        (["jpeg", "rain", "haze", "snow", "noise"], [["rain", "snow", "noise"], ["haze"], ["jpeg"]]),
        (["haze", "underwater"], [["underwater"], ["haze"]]),  # either may not be there, and is asked about
    ],
)
def test_what_it_was_taught_together_goes_together(
    instructor: Instructor, ids: list[str], parts: list[list[str]]
) -> None:
    removed: Instruction = instructor.by_parts(ids)
    assert len(removed) == len(parts)
    for part, names in zip(removed, parts, strict=True):
        assert torch.equal(part.tokens, instructor.named(names))
        assert part.nature.fixed == ("jpeg" in names)
        # Of several what is fainter counts; noise leaves no pixel as it is.
        faintest = {("rain",): (3.0, 12.0), ("snow",): (2.0, 8.0), ("rain", "snow"): (2.0, 8.0)}
        assert part.nature.faintest == faintest.get(tuple(sorted(names)))


def test_it_is_kept_in_the_model_folder(instructor: Instructor, tmp_path: Path) -> None:
    instructor.pipeline.save_pretrained(tmp_path / "again")
    for again in (load_pipeline(str(tmp_path / "again")), DefusionPipeline.from_pretrained(tmp_path / "again")):
        assert again.config["together"] == [["noise", "rain", "snow"], ["snow", "jpeg"], ["haze", "underwater"]]


@pytest.mark.parametrize("together", [{"rain": "snow"}, "rain", ["rain", "snow"], [["rain"]], [["rain", 3]], [None]])
def test_other_values_are_refused(model_folder: Path, tmp_path: Path, together: Any) -> None:
    with pytest.raises(DataError, match="together"):
        load_pipeline(str(copy_with_index(model_folder, tmp_path / "model", together=together)))

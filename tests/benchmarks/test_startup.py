"""Help starts as fast as a program can that does nothing; memory of degrade is flat; `make bench` gives the figures."""

from __future__ import annotations

import pytest
from bench_memory import LIMITS, peak_megabytes
from bench_startup import LIMIT, measure, ratios


@pytest.mark.slow
def test_help_takes_no_longer_than_that_of_a_bare_program() -> None:
    assert max(ratios(measure(2)).values()) < LIMIT


@pytest.mark.slow
def test_memory_of_degrade_does_not_grow_with_the_folder() -> None:
    few, many = (peak_megabytes("degrade", count, 48)["peak_mb"] for count in (4, 400))
    assert many < LIMITS["number"] * few

"""The simulated loader waits as long as arithmetic says."""

from __future__ import annotations

import pytest
from bench_loader import fewest_workers, waiting


@pytest.mark.parametrize(("workers", "share"), [(1, 0.75), (2, 0.5), (4, 0.0), (8, 0.0)])
def test_a_gpu_waits_for_what_its_workers_cannot_make(workers: int, share: float) -> None:
    # Four views of 0.1 s for a step of 0.1 s keep four workers busy.
    assert waiting([0.1], 4, 0.1, workers) == pytest.approx(share, abs=0.02)


def test_the_fewest_workers_are_those_that_keep_up() -> None:
    assert fewest_workers([0.1], 4, 0.1) == 4
    assert fewest_workers([0.001], 4, 0.1) == 1


def test_views_of_uneven_cost_need_no_more_than_their_mean_where_batches_are_made_ahead() -> None:
    assert waiting([0.01, 0.19], 4, 0.1, 5) < 0.02

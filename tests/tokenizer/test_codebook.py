"""The codebook's start, usage and revival."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from defusion_cli.tokenizer.codebook import count_codes, gather_encodings, kmeans, revive, usage


def test_usage_of_an_even_and_of_a_collapsed_codebook() -> None:
    even = usage(torch.full((8,), 5))
    assert even.share == 1
    assert even.perplexity == pytest.approx(8)
    collapsed = usage(torch.tensor([40, 0, 0, 0]))
    assert collapsed.share == 0.25
    assert collapsed.perplexity == pytest.approx(1)


def test_counting() -> None:
    assert count_codes(torch.tensor([[0, 2], [2, 2]]), 4).tolist() == [1, 0, 3, 0]


def test_gathered_encodings_are_one_row_a_token_in_order() -> None:
    encoding = torch.arange(2 * 3 * 2 * 2).view(2, 3, 2, 2).float()
    rows = gather_encodings(encoding)
    assert rows.shape == (8, 3)
    assert torch.equal(rows[0], encoding[0, :, 0, 0])
    assert torch.equal(rows[5], encoding[1, :, 0, 1])


def test_kmeans_finds_the_clusters(rng: np.random.Generator) -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    noise = torch.from_numpy(rng.normal(0, 0.1, (400, 2))).float()
    points = centres.repeat(100, 1) + noise
    # Random starts may share a cluster, so there are more centres than clusters.
    found = kmeans(points, 16, rng)
    assert torch.cdist(centres, found).min(1).values.max() < 0.2


def test_kmeans_with_fewer_points_than_centres_still_gives_all(rng: np.random.Generator) -> None:
    assert kmeans(torch.randn(5, 3), 12, rng).shape == (12, 3)


def test_only_dead_entries_are_replaced_and_by_encoder_outputs() -> None:
    entries, points = torch.zeros(4, 2), torch.arange(1, 13).view(6, 2).float()
    counts = torch.tensor([3, 0, 1, 0])
    revived = revive(entries, counts, points, np.random.default_rng(1))
    assert torch.equal(revived[[0, 2]], torch.zeros(2, 2))
    for row in revived[[1, 3]]:
        assert (points == row).all(1).any()
    assert not torch.equal(revived[1], revived[3])
    assert torch.equal(revived, revive(entries, counts, points, np.random.default_rng(1)))
    assert torch.equal(entries, torch.zeros(4, 2))

"""Instructions for training: the same for all, several degradations on one ground or side by side."""

from __future__ import annotations

import pytest
import torch
from tiny import make_tiny_tokenizer

from defusion_cli.plugins import installed_plugins
from defusion_cli.tokenizer import InstructionTokenizer
from defusion_cli.training.bank import InstructionBank


@pytest.fixture(scope="module")
def tokenizer() -> InstructionTokenizer:
    return make_tiny_tokenizer(codebook_size=64)


def test_several_degradations_are_shown_on_one_ground_or_each_on_its_own(tokenizer):
    bank = InstructionBank(tokenizer, installed_plugins(), seed=0, slots=4)
    ids = ("noise", "haze")
    together, apart = bank.tokens([ids, ids], [0, 1])
    each = [bank.tokens([(plugin_id,)] * 4, range(4)) for plugin_id in ids]
    # Half of the tokens, each in its place, are of an instruction for the one, half of one for the other.
    whose = torch.stack([(single == apart).all(2).sum(1).max() for single in each])
    assert apart.shape == together.shape and whose.min() >= 98 and whose.sum() >= 196
    assert max(int((single == together).all(2).sum(1).max()) for single in each) < 98


def test_instructions_depend_on_seed_ids_and_slot_only(tokenizer):
    asked = [("noise", "haze"), ("noise",), ("noise", "haze"), ()], [3, 1, 2, 7]
    one, two, other = (InstructionBank(tokenizer, installed_plugins(), seed, slots=4) for seed in (0, 0, 1))
    tokens = one.tokens(*asked)
    backwards = two.tokens(asked[0][::-1], asked[1][::-1]).flip(0)
    assert torch.equal(tokens, backwards)
    assert not torch.equal(tokens, other.tokens(*asked))
    assert torch.equal(tokens[3], one.tokens([()], [0])[0])  # there is but one that shows nothing

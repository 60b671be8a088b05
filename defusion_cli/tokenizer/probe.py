"""Can the damage be told from its tokens? A linear classifier over plugins, tested on grounds it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from defusion_cli.ground import draw_instruction
from defusion_cli.plugins.compose import Plugins
from defusion_cli.tokenizer.model import InstructionTokenizer

_CHUNK = 16
_PENALTIES, _FOLDS = (1e-3, 1e-2, 3e-2, 1e-1), 4


@dataclass(frozen=True)
class ProbeResult:
    """Outcome of a linear probe.

    Attributes
    ----------
    ids
        The classes.
    confusion
        C×C counts on held-out samples, rows the truth, columns the answer.
    """

    ids: tuple[str, ...]
    confusion: Tensor

    @property
    def accuracy(self) -> float:
        """Share of right answers, in [0, 1]."""
        return float(self.confusion.diagonal().sum() / self.confusion.sum())

    @property
    def recall(self) -> dict[str, float]:
        """Share of right answers among the samples of each class."""
        shares = self.confusion.diagonal() / self.confusion.sum(1)
        return dict(zip(self.ids, shares.tolist(), strict=True))


def token_features(tokenizer: InstructionTokenizer, instructions: Tensor) -> Tensor:
    """Mean and standard deviation of the code vectors over the tokens: N×3×H×W residuals to N×(2·embed_dim)."""
    parts = []
    with torch.no_grad():
        for chunk in instructions.split(_CHUNK):
            codes = tokenizer.embed(tokenizer.encode_tokens(chunk.to(tokenizer.device)))
            parts.append(torch.cat([codes.mean(1), codes.std(1)], 1).float().cpu())
    return torch.cat(parts)


def fit_linear(features: Tensor, labels: Tensor, classes: int, penalty: float) -> nn.Linear:
    """Multinomial logistic regression on N×d features, penalty times the squares of the weights, by L-BFGS."""
    linear = nn.Linear(features.shape[1], classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    optimiser = torch.optim.LBFGS(linear.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(linear(features), labels) + penalty * linear.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return linear


def choose_penalty(features: Tensor, labels: Tensor, classes: int) -> float:
    """The penalty that does best in four-fold cross-validation on N×d features, the strongest of equals."""
    fold = torch.arange(len(labels)) % _FOLDS

    def right(penalty: float) -> int:
        count = 0
        for held in range(_FOLDS):
            out = fold == held
            linear = fit_linear(features[~out], labels[~out], classes, penalty)
            count += int((linear(features[out]).argmax(1) == labels[out]).sum())
        return count

    return max(_PENALTIES, key=lambda penalty: (right(penalty), penalty))


def classify(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], ids: Sequence[str]) -> ProbeResult:
    """Fit on one (features, labels) pair, standardised by its own statistics, and test on the other.

    The strength of the penalty is chosen on the first pair alone.
    """
    mean, deviation = train[0].mean(0), train[0].std(0).clamp(min=1e-4)
    features = (train[0] - mean) / deviation
    linear = fit_linear(features, train[1], len(ids), choose_penalty(features, train[1], len(ids)))
    with torch.no_grad():
        answers = linear((test[0] - mean) / deviation).argmax(1)
    pairs = torch.bincount(test[1] * len(ids) + answers, minlength=len(ids) ** 2)
    return ProbeResult(tuple(ids), pairs.view(len(ids), len(ids)))


def draw_probe_samples(ids: Sequence[str], plugins: Plugins, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` single-plugin instructions of each plugin, each on a ground of its own.

    Returns
    -------
    tuple of Tensor
        N×3×224×224 residuals in [−1, 1] and N labels, positions in `ids`.
    """
    residuals, labels = [], []
    for label, plugin_id in enumerate(ids):
        for k in range(count):
            rng = np.random.default_rng([seed, label, k, 2])  # four numbers: apart from all training samples
            residuals.append(draw_instruction([plugin_id], plugins, rng)[2])
            labels.append(label)
    return torch.from_numpy(np.stack(residuals)).permute(0, 3, 1, 2), torch.tensor(labels)


def linear_probe(
    tokenizer: InstructionTokenizer,
    ids: Sequence[str],
    plugins: Plugins,
    seed: int = 0,
    counts: tuple[int, int] = (60, 30),
) -> ProbeResult:
    """Accuracy of a linear classifier that tells plugins apart by the tokens of their instructions.

    Parameters
    ----------
    ids, plugins
        The classes, and where to find them. Severities are drawn as in training.
    seed
        Of the samples.
    counts
        Samples of each plugin to fit on and to test on; no ground occurs twice.
    """
    tokenizer.eval()
    instructions, labels = draw_probe_samples(ids, plugins, sum(counts), seed)
    features = token_features(tokenizer, instructions)
    held_out = torch.arange(len(labels)) % sum(counts) >= counts[0]
    return classify((features[~held_out], labels[~held_out]), (features[held_out], labels[held_out]), ids)

"""Every kind of damage is heard alike: its errors count against what is usual for it.

Measured on the fifth default model, the gradient of a batch of noise or JPEG was four to seven times shorter than
that of rain, snow or raindrops under a loss relative to the damage, and all of them meet in one momentum: 400 steps
of which four fifths were noise gained 0.1 dB on noise with sigma 25, 300 steps of noise alone 0.6 dB. Dividing by the
usual error of the kind is the gradient of Σ log E[error], of the PSNR in dB of each kind; the logarithm of single
errors would let the crops that are easy anyway outweigh all others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

ABSENT, BLIND, SEVERAL = "absent", "blind", "several"
_WINDOW = 256
"""The usual error is about the mean of so many crops."""


def kinds_of(shown: Sequence[Sequence[str]], sizes: Tensor) -> list[str]:
    """What N views ask for, in one word each.

    Parameters
    ----------
    shown
        Degradations on the instruction.
    sizes
        Root mean square of what must go, N; zero where nothing must.
    """
    return [
        ABSENT if not size else BLIND if not ids else ids[0] if len(ids) == 1 else SEVERAL
        for ids, size in zip(shown, sizes.tolist(), strict=True)
    ]


class Balance:
    """The usual relative error of each kind, the same in all processes.

    Parameters
    ----------
    ids
        Degradations.
    first
        What is usual until a kind has been seen.
    """

    def __init__(self, ids: Sequence[str], first: float) -> None:
        self._row = {kind: row for row, kind in enumerate((*ids, ABSENT, BLIND, SEVERAL))}
        self.usual = torch.full((len(self._row),), first, dtype=torch.float64)
        self.seen = torch.zeros(len(self._row), dtype=torch.float64)
        self._sums = torch.zeros((2, len(self._row)), dtype=torch.float64)

    def usual_of(self, kinds: Sequence[str]) -> Tensor:
        """What is usual for each, N."""
        return self.usual[[self._row[kind] for kind in kinds]].float()

    def note(self, kinds: Sequence[str], errors: Tensor) -> None:
        """Take notice of relative errors, N, of this step."""
        rows = torch.tensor([self._row[kind] for kind in kinds])
        errors = errors.detach().double().cpu()
        finite = errors.isfinite()
        self._sums[0].index_add_(0, rows[finite], errors[finite])
        self._sums[1].index_add_(0, rows[finite], torch.ones_like(errors[finite]))

    def end_step(self, device: torch.device) -> None:
        """What was noted in all processes counts from the next step on."""
        if dist.is_available() and dist.is_initialized():
            everywhere = self._sums.to(device)
            dist.all_reduce(everywhere)
            self._sums = everywhere.cpu()
        total, count = self._sums
        new = count > 0
        share = (count / (self.seen + count).clamp(max=_WINDOW)).clamp(max=1)
        self.usual[new] += share[new] * (total[new] / count[new] - self.usual[new])
        self.seen += count
        self._sums = torch.zeros_like(self._sums)

    def state(self) -> dict[str, Tensor]:
        """What `load_state` takes."""
        return {"usual": self.usual, "seen": self.seen}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self.usual, self.seen = state["usual"].clone(), state["seen"].clone()

"""How much of what the backbone adds to its first estimate is followed."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

FAINT = 2 * 4 / 255
"""Root mean square of an addition that lies half-way between faint and strong, for a picture in [−1, 1]."""

_CELL_PX = 16


class Refinement(NamedTuple):
    """Factors, 0 … 2, that an addition is multiplied with.

    A least-squares estimate of faint damage is too small where the network was mostly taught strong damage: what it
    takes for faint grain is only a part of it. Between the two the factor falls with the mean square m of the addition
    around each pixel, ``strong + (faint − strong) / (1 + m / FAINT²)``.

    Attributes
    ----------
    strong
        Of an addition much larger than `FAINT`.
    faint
        Of a much smaller one.
    """

    strong: float = 1.0
    faint: float = 1.0

    @property
    def nothing(self) -> bool:
        """Whether nothing that is added counts."""
        return not self.strong and not self.faint

    def __call__(self, added: Tensor) -> Tensor:
        """What is followed of an addition, N×3×H×W for pictures in [−1, 1]."""
        if self.strong == self.faint:
            return added if self.strong == 1 else self.strong * added
        square = added.float().square().mean(1, keepdim=True)
        cells = F.avg_pool2d(square, _CELL_PX, ceil_mode=True, count_include_pad=False)
        around = F.avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False)
        m = F.interpolate(around, added.shape[-2:], mode="bilinear")
        return (self.strong + (self.faint - self.strong) / (1 + m / FAINT**2)) * added


UNCHANGED = Refinement()

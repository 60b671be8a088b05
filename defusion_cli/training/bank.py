"""Ready tokens of instructions, so that training does not wait for grounds to be drawn and encoded."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from defusion_cli.ground import draw_instruction, natural_pool
from defusion_cli.plugins.compose import Plugins
from defusion_cli.tokenizer import InstructionTokenizer


class InstructionBank:
    """Token embeddings of instructions, made when first asked for.

    An entry depends on (seed, ids, slot) only, so every process and every resumed run sees the same ones. Category
    and ground vary from slot to slot, severity too: an instruction tells *what*, the photograph tells how much.

    Parameters
    ----------
    slots
        Different instructions kept for each set of degradations.
    kind
        Ground: ``visual``, ``simple`` or ``blank``.
    """

    def __init__(
        self,
        tokenizer: InstructionTokenizer,
        plugins: Plugins,
        seed: int,
        slots: int = 64,
        kind: str = "visual",
        natural_dir: Path | None = None,
    ) -> None:
        self.tokenizer, self.plugins, self.seed, self.slots, self.kind = tokenizer, plugins, seed, slots, kind
        self._natural = natural_pool(natural_dir)
        self._indices: dict[tuple[tuple[str, ...], int], Tensor] = {}

    def tokens(self, shown: Sequence[Sequence[str]], slots: Sequence[int]) -> Tensor:
        """Embeddings, N×196×256, for N instructions; no ids at all is the null instruction v = 0.

        Several degradations are shown on one ground in every second slot, and each on a ground of its own in the rest.
        """
        indices = torch.stack([self._entry(tuple(ids), slot) for ids, slot in zip(shown, slots, strict=True)])
        with torch.no_grad():
            return self.tokenizer.embed(indices.to(self.tokenizer.device))

    def _entry(self, ids: tuple[str, ...], slot: int) -> Tensor:
        if len(ids) > 1 and slot % 2:
            return self._side_by_side(ids, slot // 2)
        # Mixtures are many and rare: a quarter of the slots does, and saves their making.
        slot %= self.slots if len(ids) == 1 else max(1, self.slots // 4)
        key = (ids, slot if ids else 0)
        if key not in self._indices:
            rng = np.random.default_rng([self.seed, zlib.crc32(",".join(ids).encode()), key[1]])
            residual = draw_instruction(ids, self.plugins, rng, kind=self.kind, natural=self._natural)[2]
            pixels = torch.from_numpy(np.ascontiguousarray(residual.transpose(2, 0, 1)))[None]
            with torch.no_grad():
                self._indices[key] = self.tokenizer.encode_tokens(pixels.to(self.tokenizer.device))[0].cpu()
        return self._indices[key]

    def _side_by_side(self, ids: tuple[str, ...], slot: int) -> Tensor:
        """As many tokens as of one instruction, drawn evenly from those of an instruction for each of `ids`.

        Another way to say the same, which needs no mixture to be drawn and encoded.
        """
        rng = np.random.default_rng([self.seed, zlib.crc32(",".join(ids).encode()), slot])
        each = torch.stack([self._entry((plugin_id,), int(rng.integers(2**31))) for plugin_id in ids])
        places = torch.arange(each.shape[1])
        whose = torch.from_numpy(rng.permutation(each.shape[1]) % len(ids))
        return each[whose, places]

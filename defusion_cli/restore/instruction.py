"""What the model is told to remove: named degradations, a user's own pair of pictures, or nothing in particular."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from defusion_cli.canvas import ArrayPhoto, Pixels
from defusion_cli.diffusion.pipeline import DefusionPipeline
from defusion_cli.diffusion.refinement import UNCHANGED, Refinement
from defusion_cli.ground.instruction import INSTRUCTION_PX
from defusion_cli.plugins import Blur, Position
from defusion_cli.plugins.compose import Plugins, physical_order
from defusion_cli.recognition import Recognition, recognise
from defusion_cli.restore.example import example_residuals
from defusion_cli.restore.psf import blur_between

_LIKELY_BLUR = 0.5
"""What the recogniser has to say of a blur that is seen beside other damage."""


class Doubt(NamedTuple):
    """That a photograph for which a kind of damage was named may be without it.

    Attributes
    ----------
    kind
        The degradation, as the recogniser knows it.
    odds
        `Degradation.odds_when_named`.
    """

    kind: str
    odds: float

    def probability(self, recognised: float) -> float:
        """That the damage is there, named as it is (Bayes), from the probability that the recogniser gives it."""
        return self.odds * recognised / (self.odds * recognised + 1 - recognised)


class Nature(NamedTuple):
    """What is known of a kind of damage beside how it looks.

    Attributes
    ----------
    fixed
        Its sizes are those of the pixels of the file, always.
    faintest
        Of damage that mostly leaves pixels as they are, `Degradation.faintest`; of other None.
    uniform_blur
        What it convolves the whole photograph with, if it does (`Degradation.uniform_blur`).
    blurs
        The degradations that do so: a photograph that shows none of them is not to be deconvolved.
    doubt
        It may not be there.
    share
        Part of the estimated damage that is taken away, 0 … 1.
    refinement
        As for `DefusionPipeline.damage`.
    """

    fixed: bool = False
    faintest: tuple[float, float] | None = None
    uniform_blur: Blur | None = None
    blurs: tuple[str, ...] = ()
    doubt: Doubt | None = None
    share: float = 1.0
    refinement: Refinement = UNCHANGED


UNKNOWN = Nature()


class Part(NamedTuple):
    """One kind of damage to remove.

    Attributes
    ----------
    tokens
        What the model is shown, 1×K×D.
    nature
        What is known of it otherwise.
    """

    tokens: Tensor
    nature: Nature = UNKNOWN


Instruction = tuple[Part, ...]
"""What to remove, in this order: what came last first."""


class Instructor:
    """Instruction tokens for one model; those of a named degradation are made once.

    Parameters
    ----------
    pipeline
        The model whose tokenizer is used.
    plugins
        Installed degradations.
    grounds
        Test charts that named degradations are shown on, as for `defusion_cli.ground.named_residuals`; their tokens
        are put one after another.
    insist
        What is named is there, whether or not the recogniser agrees.
    """

    def __init__(
        self, pipeline: DefusionPipeline, plugins: Plugins, grounds: int | None = None, *, insist: bool = False
    ) -> None:
        self.pipeline, self._plugins, self._grounds, self._insist = pipeline, plugins, grounds, insist
        self._known: dict[tuple[str, ...], Tensor] = {}

    def named(self, ids: Sequence[str]) -> Tensor:
        """Tokens, 1×(196·grounds)×256, of one degradation, or of several that lie over one another.

        The order of `ids` does not matter: the ground is damaged in the order in which light meets the damage.
        """
        key = tuple(sorted(set(ids)))
        if key not in self._known:
            self._known[key] = self.pipeline.encode_names(key, self._plugins, self._grounds)
        return self._known[key]

    def by_parts(self, ids: Sequence[str]) -> Instruction:
        """Each degradation by itself: the model removes several better one after another than together.

        But for the mixtures that it was taught as such (`DefusionPipeline`, together).
        """
        order = self._removal_order(ids)
        mixtures = self._familiar(physical_order(order, self._plugins))
        alone = [(one,) for one in order if not any(one in mixture for mixture in mixtures)]
        parts = sorted([*mixtures, *alone], key=lambda part: order.index(part[-1]))
        return tuple(Part(self.named(part), self._nature(part)) for part in parts)

    def _removal_order(self, ids: Sequence[str]) -> list[str]:
        """What came last goes first, for it lies over the rest; but what files do goes after all that is no blur.

        Traces of compression are hard to tell from detail, easier where nothing else is in the way.
        """
        last_first = physical_order(sorted(set(ids)), self._plugins)[::-1]

        def turn(name: str) -> int:
            plugin = self._plugins[name]
            return 2 if plugin.uniform_blur else int(plugin.position == Position.FILE)

        return sorted(last_first, key=turn)

    def _familiar(self, ids: Sequence[str]) -> list[tuple[str, ...]]:
        """Those of `ids` that are to go together, in the order of `ids`; the model's first sets have precedence.

        What may not be there, and what blurs, is looked for by itself.
        """
        mixtures: list[tuple[str, ...]] = []
        left = {one for one in ids if not self._plugins[one].odds_when_named and not self._plugins[one].uniform_blur}
        for names in map(set, self.pipeline.config["together"]):
            if names <= left:
                mixtures.append(tuple(one for one in ids if one in names))
                left -= names
        return mixtures

    def _nature(self, ids: Sequence[str]) -> Nature:
        plugins = [self._plugins[one] for one in ids]
        nature = Nature(
            fixed=any(plugin.position == Position.FILE for plugin in plugins),
            faintest=min(plugin.faintest for plugin in plugins) if all(plugin.sparse for plugin in plugins) else None,
        )
        if len(plugins) > 1:
            return nature
        (plugin,) = plugins
        refinement = self.pipeline.refinement_of(plugin.id)
        nature = nature._replace(uniform_blur=plugin.uniform_blur, refinement=refinement)
        if self._insist:
            return nature
        doubt = Doubt(plugin.id, plugin.odds_when_named) if plugin.odds_when_named else None
        return nature._replace(blurs=self._blurs(), doubt=doubt)

    def example(self, before: Pixels, after: Pixels) -> Instruction:
        """The difference between a damaged picture and the same picture without damage."""
        tokens = self.pipeline.encode_residuals(example_residuals(before, after))
        seen, blur = self._shown_by(before, after), blur_between(before, after)
        if blur:  # short paths are as round as disks, but leave other traces
            blur = next((self._plugins[name].uniform_blur for name in seen if name in self._blurs()), blur)
        refinement = max(map(self.pipeline.refinement_of, seen), default=UNCHANGED)
        nature = Nature(uniform_blur=blur, blurs=self._blurs(), refinement=refinement)
        return (Part(tokens, nature),)

    def recognised(self, seen: Recognition) -> tuple[str, ...]:
        """What to remove of what was recognised: all that is present, but of blurs beside other damage at most one.

        It must be more probable than not, for what is left of the other damage looks shaken to deconvolution; and a
        second one would sharpen what the first left.
        """
        blurs = [name for name in seen.present if name in self._blurs()]
        if len(blurs) == len(seen.present):
            return seen.present
        believed = [name for name in blurs[:1] if dict(seen.probabilities)[name] >= _LIKELY_BLUR]
        return tuple(name for name in seen.present if name not in blurs or name in believed)

    def _shown_by(self, before: Pixels, after: Pixels) -> tuple[str, ...]:
        """What the recogniser sees in the first picture and not in the second, the most probable first.

        Nothing if the model has none.
        """
        if self.pipeline.find_recogniser is None:
            return ()
        network = self.pipeline.find_recogniser()
        seen, still = (recognise(network, ArrayPhoto(picture)).present for picture in (before, after))
        return tuple(name for name in seen if name not in still)

    def _blurs(self) -> tuple[str, ...]:
        return tuple(plugin_id for plugin_id, plugin in self._plugins.items() if plugin.uniform_blur)

    def blind(self) -> Instruction:
        """The null instruction v = 0, with which the model was trained to remove what it sees."""
        nothing = np.zeros((INSTRUCTION_PX, INSTRUCTION_PX, 3), np.float32)
        return (Part(self.pipeline.encode_instruction(nothing)),)

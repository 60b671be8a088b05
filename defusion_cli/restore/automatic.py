"""Restoring without being told what is wrong: recognise it, then remove what was recognised."""

from __future__ import annotations

from defusion_cli.canvas import Canvas
from defusion_cli.recognition import DegradationRecogniser, Recognition, recognise
from defusion_cli.restore.instruction import Instructor
from defusion_cli.restore.pixels import AsSrgb
from defusion_cli.restore.restorer import Restorer
from defusion_cli.restore.run import NOTHING_TO_REMOVE, RECOGNISED, Remark


class AutomaticRestorer:
    """Restores one canvas after another, in place, each by what it shows; leaves it alone if that is nothing.

    Parameters
    ----------
    restorer
        Model and settings; its instruction is replaced for each picture.
    instructor
        Makes the instructions of what was recognised.
    network
        Says what a picture shows.
    """

    def __init__(self, restorer: Restorer, instructor: Instructor, network: DegradationRecogniser) -> None:
        self._restorer, self._instructor, self._network = restorer, instructor, network

    def __call__(self, canvas: Canvas) -> Remark:
        """Restore the canvas; the remark holds the probabilities, and the instruction in words."""
        seen = self.look(canvas)
        probabilities = {name: round(value, 4) for name, value in seen.probabilities}
        present = self._instructor.recognised(seen)
        facts = {"instruction": " + ".join(present) or NOTHING_TO_REMOVE, RECOGNISED: probabilities}
        if not present:
            return Remark(facts, untouched=True)
        self._restorer.instruction = self._instructor.by_parts(present)
        return Remark({**facts, **self._restorer(canvas).facts})

    def look(self, canvas: Canvas) -> Recognition:
        """What a canvas shows."""
        return recognise(self._network, AsSrgb(canvas))

    def shrink(self) -> bool:
        """Use smaller tiles from now on; False if they are as small as they can be."""
        return self._restorer.shrink()

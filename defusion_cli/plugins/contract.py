"""What a degradation plugin is: one class, one physical model, one file.

A third party writes a subclass of `Degradation` and names an instance of it in its ``pyproject.toml``::

    [project.entry-points."defusion.degradations"]
    moire = "my_package.moire:MOIRE"

Every command then knows it. `defusion_cli.plugins.check_degradation` tests the promises made here.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
"""float32 RGB, H×W×3, in [0, 1]."""

P = TypeVar("P")


class Blur(enum.Enum):
    """What the point spread function of a blur is like."""

    PATH = "path"
    """Along which the camera moved."""
    DISK = "disk"
    """Round and even, as out of focus."""


class Position(enum.IntEnum):
    """Where light meets the damage on its way from the scene to the file; the default order of mixtures."""

    SCENE = 0
    """Motion or focus of the scene itself."""
    WATER = 1
    """The medium between scene and lens, absorbing and scattering: haze, sea water."""
    PRECIPITATION = 2
    """Rain and snow in the air."""
    LENS = 3
    """On the glass: raindrops, dirt."""
    EXPOSURE = 4
    """Too little light on the sensor."""
    SENSOR = 5
    """Noise."""
    FILE = 6
    """Compression."""


@dataclass(frozen=True)
class Scene:
    """What a plugin may know of the photograph beyond its pixels.

    Attributes
    ----------
    depth
        H×W float32 relative depth in [0, 1], 0 at the camera and 1 at the farthest point, for the very pixels
        handed to ``apply``; None when nobody knows it.
    """

    depth: NDArray[np.float32] | None = None


class Degradation(ABC, Generic[P]):
    """One kind of damage, as a physical model with bounded parameters.

    Subclasses set the class attributes and write `sample`, `apply` and `neutral`.

    The rules, all of them checked by `check_degradation`:

    * `apply` is pure: it leaves its inputs alone, keeps no state, and returns a new float32 array of the same
      shape with finite values in [0, 1].
    * `apply` takes all randomness from `rng`, and *what it draws depends on the shape and the parameters only,
      never on pixel values*. A seed therefore names one realisation (these streaks, these flakes, this noise)
      that can be laid over any picture of that size, in any order with other damage.
    * Lengths are in pixels and counts are densities per megapixel, so that a crop is damaged like a piece of
      its photo, and the 224-pixel ground like a piece of any photo.
    * `sample` is monotone in `severity`: more severe means a larger residual on average.
    * `neutral()` are parameters at which `apply` is the identity.
    """

    id: ClassVar[str]
    """Name on the command line: lower-case words joined by hyphens."""
    version: ClassVar[str] = "1"
    """Raised whenever the same parameters and seed give other pixels."""
    summary: ClassVar[str]
    """One line for listings."""
    position: ClassVar[Position]
    Params: ClassVar[type[Any]]
    """Frozen dataclass whose fields are made with `defusion_cli.plugins.param`."""
    uses_depth: ClassVar[bool] = False
    """True if `apply` looks at ``scene.depth``; the host then supplies one, estimated when none is known."""
    sparse: ClassVar[bool] = False
    """True if it leaves most pixels as they are, as rain does between streaks."""
    faintest: ClassVar[tuple[float, float]] = (2.0, 8.0)
    """Of sparse damage, in 1/255: an estimate below the first is taken for none by `restore`, so that pixels keep their
    very values, and from the second on it counts in full."""
    odds_when_named: ClassVar[float | None] = None
    """For damage that photographs may seem to have by nature, as they may be dark or pale: by how much the odds that it
    is there rise when a user names it, from those that the model's recogniser gives. `restore` then takes away the
    share of its estimate that equals the probability. None takes a name for certain."""
    named_draws: ClassVar[tuple[int, ...]] = (0,)
    """Numbers (seeds) of the draws whose instructions stand for its name. One is enough where all look much alike; of
    damage that comes in several styles, as long and short streaks, show one of each."""
    uniform_blur: ClassVar[Blur | None] = None
    """If it convolves all of the photograph with one point spread function, what that is like. `restore` then looks for
    it first (`defusion_cli.restore.deconvolution`)."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, severity: float | None = None) -> P:
        """Draw parameters; `severity` in [0, 1] runs from barely visible to the worst; None draws it too."""

    @abstractmethod
    def apply(self, image: Image, params: P, rng: np.random.Generator, scene: Scene | None = None) -> Image:
        """The damaged picture (H×W×3 float32 in [0, 1])."""

    @abstractmethod
    def neutral(self) -> P:
        """Parameters at which `apply` returns its input."""

    def needs_depth(self, params: P) -> bool:
        """Whether `apply` would look at the depth map with these parameters; estimating one costs time."""
        return self.uses_depth

    def apply_8bit(
        self, picture: NDArray[np.uint8], params: P, rng: np.random.Generator, scene: Scene | None = None
    ) -> NDArray[np.uint8]:
        """`apply` for pictures of 8 bits, H×W×3: the same, rounded.

        A plugin that works on 8 bits anyway may override it and save the conversions.
        """
        image = np.multiply(picture, np.float32(1 / 255), dtype=np.float32)
        return np.asarray(cv2.convertScaleAbs(self.apply(image, params, rng, scene), alpha=255.0), np.uint8)

    def instruction(self, ground: Image, params: P, rng: np.random.Generator) -> NDArray[np.float32]:
        """The visual instruction v = D(g) − g, H×W×3 in [−1, 1] (Defusion, supplement section 6)."""
        return self.apply(ground, params, rng) - ground


def severity_or_draw(rng: np.random.Generator, severity: float | None) -> float:
    """`severity` itself, or a uniform draw. Always consumes one number, so that later draws do not move."""
    drawn = float(rng.random())
    return drawn if severity is None else float(severity)

"""JPEG compression, once or twice, by the encoder that wrote most of the world's pictures (libjpeg).

Every 8×8 block of Y, Cb and Cr is transformed by a DCT and each coefficient F_uv is rounded to a multiple of a
step (ITU-T T.81, 1992)::

    F'_uv = q_uv · round(F_uv / q_uv),    q_uv = clip(⌊(S · Q_uv + 50) / 100⌋, 1, 255)

with the example tables Q of annex K and the scale of the Independent JPEG Group's library, S = 5000 / quality
below 50 and 200 − 2 · quality from there on. Chroma is kept at full, half or quarter resolution (4:4:4, 4:2:2,
4:2:0). A picture that was saved, cropped and saved again carries two block grids that are shifted against one
another; if the first quality is the lower one, its artefacts stay visible under a second, innocent looking save
(Jiang, Zhang and Timofte, "Towards flexible blind JPEG artifacts removal", ICCV 2021).

Quality 100 means "not encoded" here, so that the neutral parameters leave a picture alone to the last bit; every
quality below includes the rounding to 8 bits. Left out: encoders with other tables (cameras, Photoshop), trellis
quantisation, resizing between two saves, and the difference between baseline and progressive files, which decode
to the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from defusion_cli.plugins import Degradation, Image, Position, Scene, param, severity_or_draw

_SUBSAMPLING = {
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
}
_NOT_ENCODED = 100
_MILDEST, _WORST = 95, 5
_TWICE_SHARE = 0.25


@dataclass(frozen=True)
class JpegParams:
    """Parameters of `Jpeg`."""

    quality: int = param(20, low=5, high=100, meaning="IJG quality of the last save; 100: not encoded")
    subsampling: str = param("4:2:0", choices=tuple(_SUBSAMPLING), meaning="resolution of the chroma planes")
    first_quality: int = param(100, low=5, high=100, meaning="quality of an earlier save; 100: there was none")
    shift_x: int = param(0, unit="px", low=0, high=7, meaning="columns between the block grids of the two saves")
    shift_y: int = param(0, unit="px", low=0, high=7, meaning="rows between the block grids of the two saves")


def _save_and_load(picture: NDArray[np.uint8], quality: int, subsampling: str) -> NDArray[np.uint8]:
    """H×W×3 8-bit RGB through the encoder and back."""
    if quality == _NOT_ENCODED:
        return picture
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _SUBSAMPLING[subsampling]]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded), np.uint8)


class Jpeg(Degradation[JpegParams]):
    """Block artefacts, ringing and washed-out chroma of JPEG files, saved once or twice."""

    id = "jpeg"
    summary = "JPEG compression, single or double, with chroma subsampling"
    position = Position.FILE
    Params = JpegParams

    def sample(self, rng: np.random.Generator, severity: float | None = None) -> JpegParams:
        """Quality falls geometrically from 95 to 5 with `severity`; one draw in four was saved twice.

        Of two saves the worse one has the quality that `severity` asks for, and either may be the first.
        """
        worse = round(_MILDEST * (_WORST / _MILDEST) ** severity_or_draw(rng, severity))
        chroma, better_draw, column, row, twice, worse_first = rng.random(6).tolist()
        subsampling = "4:2:0" if chroma < 0.65 else "4:4:4" if chroma < 0.9 else "4:2:2"
        if twice >= _TWICE_SHARE:
            return JpegParams(worse, subsampling)
        better = worse + int(better_draw * (_MILDEST + 1 - worse))
        first, last = (worse, better) if worse_first < 0.5 else (better, worse)
        return JpegParams(last, subsampling, first, int(8 * column), int(8 * row))

    def apply(self, image: Image, params: JpegParams, rng: np.random.Generator, scene: Scene | None = None) -> Image:
        """The picture as it comes back from the file; draws nothing from `rng`."""
        if params.quality == params.first_quality == _NOT_ENCODED:
            return image.copy()
        picture = cv2.convertScaleAbs(np.ascontiguousarray(image), alpha=255.0)  # rounds and saturates
        return np.multiply(self.apply_8bit(picture, params, rng, scene), np.float32(1 / 255), dtype=np.float32)

    def apply_8bit(
        self, picture: NDArray[np.uint8], params: JpegParams, rng: np.random.Generator, scene: Scene | None = None
    ) -> NDArray[np.uint8]:
        """The 8-bit picture as it comes back from the file."""
        if params.quality == params.first_quality == _NOT_ENCODED:
            return picture.copy()
        if params.first_quality != _NOT_ENCODED:
            # A larger picture was saved first and then cropped: its margin repeats our edge.
            x, y = params.shift_x, params.shift_y
            larger = cv2.copyMakeBorder(picture, y, 0, x, 0, cv2.BORDER_REPLICATE)
            picture = _save_and_load(larger, params.first_quality, params.subsampling)[y:, x:]
        return _save_and_load(picture, params.quality, params.subsampling)

    def neutral(self) -> JpegParams:
        """Quality 100, which stands for no encoding at all."""
        return JpegParams(quality=_NOT_ENCODED)


JPEG = Jpeg()

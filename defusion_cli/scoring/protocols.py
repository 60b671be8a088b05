"""How a number is computed, written down so that it can be printed beside the number.

PSNR and SSIM of one pair differ by decibels between papers: RGB or luma, one of two lumas, rounded or not, cropped or
not, one of two windows. The protocols of the papers were read from their published evaluation code, which `source`
names; where that code was not at hand, there is no protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from defusion_cli.data.adapters import DATASETS, DatasetSpec
from defusion_cli.errors import UsageError, did_you_mean

Colour = Literal["rgb", "y-full", "y-studio"]
Window = Literal["gaussian", "uniform"]
Pooling = Literal["none", "blocks", "adaptive"]
Crop = Literal["none", "multiple-of-4", "reference-centre"]
Alignment = Literal["none", "ecc"]
FidMode = Literal["clean", "legacy_pytorch", "legacy_tensorflow"]

_COLOURS = {
    "rgb": "RGB",
    "y-full": "Y full range (0.299 R + 0.587 G + 0.114 B)",
    "y-studio": "Y studio range 16–235 (BT.601, MATLAB rgb2ycbcr)",
}
_WINDOWS = {"gaussian": "Gaussian window 11×11, σ 1.5", "uniform": "uniform window 7×7, sample covariance"}
_POOLINGS = {
    "none": "",
    "blocks": "; averaged over blocks to about 256 px first",
    "adaptive": "; adaptively averaged to about 256 px first",
}
_CROPS = {
    "none": "whole picture",
    "multiple-of-4": "right and bottom cut to a multiple of 4",
    "reference-centre": "reference cut to the size of the picture, about its centre",
}
_ALIGNMENTS = {
    "none": "",
    "ecc": "; brightness scaled and registered to the reference by a homography (ECC), valid pixels only",
}


@dataclass(frozen=True)
class Protocol:
    """Everything that changes a number.

    Attributes
    ----------
    name
        As given to ``--protocol``, with the data set for the papers' protocols.
    psnr_colour, ssim_colour
        What PSNR and SSIM compare.
    rounded
        True if luma is rounded to whole 8-bit levels first.
    eps
        Added to the mean squared error (of pictures in [0, 1]) in PSNR; pyiqa's 1e-8 caps PSNR at 80 dB.
    window
        Local statistics of SSIM: Gaussian 11×11 with σ = 1.5 (Wang et al. 2004), or scikit-image's default.
    pooling
        Whether SSIM looks at a smaller copy: the size is divided by round(min(H, W) / 256).
    non_negative
        True if negative local structure counts as zero, as in pyiqa.
    crop
        What is cut off before PSNR and SSIM; "reference-centre" is for all metrics.
    alignment
        What is done to the picture before metrics of single pixels: see `defusion_cli.scoring.alignment`.
    fid_mode
        How pictures are resized for Inception.
    source
        Where this was read.
    """

    name: str
    psnr_colour: Colour = "rgb"
    ssim_colour: Colour = "rgb"
    rounded: bool = False
    eps: float = 0.0
    window: Window = "gaussian"
    pooling: Pooling = "none"
    non_negative: bool = False
    crop: Crop = "none"
    alignment: Alignment = "none"
    fid_mode: FidMode = "clean"
    source: str = ""

    def psnr_text(self) -> str:
        """Definition of PSNR in words."""
        cap = ", 1e-8 added to the error" if self.eps else ""
        return f"{self._colour_text(self.psnr_colour)}{cap}; {self._place_text()}"

    def psnr_b_text(self) -> str:
        """Definition of PSNR-B in words."""
        luma = "" if self.psnr_colour != "rgb" else " of Y studio range rounded to 8 bits"
        return f"{self._colour_text(self.psnr_colour)}, blocking{luma} at 8×8 added to the error; {self._place_text()}"

    def mae_text(self) -> str:
        """Definition of the mean absolute error in words."""
        return "RGB in [0, 1]" + _ALIGNMENTS[self.alignment]

    def ssim_text(self) -> str:
        """Definition of SSIM in words."""
        floor = ", negative structure as zero" if self.non_negative else ""
        rest = f"{_WINDOWS[self.window]}{floor}{_POOLINGS[self.pooling]}; {self._place_text()}"
        return f"{self._colour_text(self.ssim_colour)}; {rest}"

    def fid_text(self) -> str:
        """Definition of FID in words."""
        cut = f"; {_CROPS[self.crop]}" if self.crop == "reference-centre" else ""
        return f"InceptionV3 pool3, 2048 features, mode {self.fid_mode}{cut}"

    def with_larger_references(self) -> Protocol:
        """The same for a set whose true pictures are larger by design, whatever is computed of them."""
        return replace(self, crop="reference-centre") if self.crop == "none" else self

    def _place_text(self) -> str:
        return _CROPS[self.crop] + _ALIGNMENTS[self.alignment]

    def _colour_text(self, colour: Colour) -> str:
        rounded = ", rounded to 8 bits" if self.rounded and colour != "rgb" else ""
        return _COLOURS[colour] + rounded


GENERAL = {
    "pyiqa": Protocol(
        "pyiqa", ssim_colour="y-full", rounded=True, eps=1e-8, non_negative=True, source="pyiqa 0.1.16, its defaults"
    ),
    "rgb": Protocol("rgb", source="RGB, as scikit-image computes it"),
    "y": Protocol("y", psnr_colour="y-studio", ssim_colour="y-studio", source="luma as in MATLAB and BasicSR"),
}
"""Protocols for any folder. The first is the default: a name means what it means in pyiqa."""

_Y = replace(GENERAL["y"], fid_mode="legacy_pytorch")
_RGB = replace(GENERAL["rgb"], fid_mode="legacy_pytorch")
_ALIGNED = replace(_RGB, alignment="ecc", source="RealBlur, evaluation_RealBlur_ecc.py")

PAPER = {
    protocol.name: protocol
    for protocol in (
        replace(_RGB, name="gopro", source="NAFNet and Restormer (evaluate_gopro_hide.m)"),
        replace(_RGB, name="dpdd", window="uniform", source="Restormer, Defocus_Deblurring/utils.py"),
        replace(_ALIGNED, name="realblur-j"),
        replace(_ALIGNED, name="realblur-r"),
        replace(_Y, name="snow100k", source="WeatherDiffusion, calculate_psnr_ssim.py"),
        replace(_RGB, name="sots-indoor", pooling="adaptive", crop="reference-centre", source="DehazeFormer, test.py"),
        replace(_RGB, name="sots-outdoor", pooling="adaptive", source="DehazeFormer, test.py"),
        replace(_Y, name="raindrop", crop="multiple-of-4", source="later papers (WeatherDiffusion); luma unrounded"),
        replace(
            _Y,
            name="raindrop-original",
            psnr_colour="y-full",
            ssim_colour="y-full",
            rounded=True,
            crop="multiple-of-4",
            source="DeRaindrop, metrics.py",
        ),
        replace(_Y, name="rain1400", rounded=True, source="Restormer, Deraining/evaluate_PSNR_SSIM.m"),
        replace(_Y, name="rain1400-ddn", pooling="blocks", source="DDN's code as in DRSformer's evaluations"),
        replace(_Y, name="outdoor-rain", source="WeatherDiffusion"),
        replace(_RGB, name="sidd", source="Restormer, Denoising/evaluate_sidd.m; meant for its 256×256 blocks"),
        replace(_RGB, name="live1", source="FBCNN, main_test_fbcnn_color.py; with psnrb"),
        replace(_RGB, name="euvp", source="FUnIE-GAN, Evaluation/imqual_utils.py; meant for 256×256"),
        replace(_RGB, name="turbid", source="as EUVP"),
    )
}
"""The papers' protocols by data set. FID as with pytorch-fid, the tool these papers use."""


def find_set(name: str) -> tuple[DatasetSpec, str]:
    """The data set that ``--set`` names, and the key of its protocol.

    ``snow100k``, its subset ``snow100k.l``, and protocols of one set beside the usual one, as ``rain1400-ddn``.

    Raises
    ------
    UsageError
        If there is no such set.
    """
    key = name.lower().replace(".", "-")
    ids = [each for each in DATASETS if key == each or key.startswith(f"{each}-")]
    if ids:
        return DATASETS[max(ids, key=len)], key
    known = sorted({*DATASETS, *PAPER})
    near = did_you_mean(name, known)
    fix = f"did you mean {near}?" if near else None
    raise UsageError("--set names no data set.", found=name, accepted=", ".join(known), fix=fix)


def find_protocol(name: str, data_set: str | None) -> Protocol:
    """The protocol called `name`; for "paper", that of `data_set`, a key from `find_set`.

    Raises
    ------
    UsageError
        If there is none.
    """
    if name in GENERAL:
        return GENERAL[name]
    if name != "paper":
        accepted = ", ".join([*GENERAL, "paper"])
        near = did_you_mean(name, [*GENERAL, "paper"])
        fix = f"did you mean {near}?" if near else None
        raise UsageError("--protocol has no such choice.", found=name, accepted=accepted, fix=fix)
    if data_set is None:
        fix = "defusion score --protocol paper --set gopro …"
        raise UsageError("--protocol paper needs the data set.", accepted=", ".join(PAPER), fix=fix)
    found = PAPER.get(data_set) or PAPER.get(find_set(data_set)[0].id)
    if found is None:
        raise UsageError(
            f"There is no protocol of the papers for {data_set}: no published evaluation code was at hand.",
            accepted=", ".join(PAPER),
            fix="--protocol rgb or --protocol y, and say so beside the numbers",
        )
    return replace(found, name=f"paper:{data_set}")

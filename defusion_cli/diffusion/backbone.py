"""Making a backbone, and starting it from somebody else's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor, nn

from defusion_cli.diffusion.blocks import ResidualBlock
from defusion_cli.diffusion.unet import DegradationUNet
from defusion_cli.errors import DataError, UsageError

IN_CHANNELS, OUT_CHANNELS = 6, 3
_WEIGHTS = "diffusion_pytorch_model.safetensors"


def make_backbone(kind: str, options: Mapping[str, Any]) -> nn.Module:
    """A fresh backbone: ``small`` is `DegradationUNet`, ``unet2d`` diffusers' ``UNet2DConditionModel``.

    Raises
    ------
    UsageError
        If the options do not fit.
    """
    maker: Any = {"small": DegradationUNet, "unet2d": UNet2DConditionModel}[kind]
    try:
        model: nn.Module = maker(in_channels=IN_CHANNELS, out_channels=OUT_CHANNELS, **options)
    except (TypeError, ValueError) as error:
        raise UsageError("These backbone options do not fit together.", found=str(error)[:300]) from error
    if kind == "unet2d":
        _start_as_identity(model)
    return model


def check_backbone(kind: str, options: Mapping[str, Any]) -> None:
    """Raise the `UsageError` of `make_backbone` without making one: nothing is allocated or drawn."""
    with torch.device("meta"):
        make_backbone(kind, options)


def tokens_of_each(model: nn.Module, tokens: Tensor, samples: int) -> Tensor:
    """V×K×D instruction tokens as the backbone wants them: ours for each photograph, others for each sample of it."""
    each = 1 if isinstance(model, DegradationUNet) else samples // len(tokens)
    return tokens if each == 1 else tokens.repeat_interleave(each, dim=0)


def _start_as_identity(model: nn.Module) -> None:
    """y₀ = 0 at first, and y_t unheard: at t = T it is pure noise and would drown the faint traces in x_LQ."""
    nn.init.zeros_(model.conv_out.weight)  # type: ignore[union-attr, arg-type]
    nn.init.zeros_(model.conv_out.bias)  # type: ignore[union-attr, arg-type]
    model.conv_in.weight.data[:, :OUT_CHANNELS] = 0  # type: ignore[union-attr, operator]


@dataclass
class InitReport:
    """What became of every tensor of the model when it was started from other weights."""

    loaded: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = {"loaded": self.loaded, "adapted": self.adapted, "re-initialised": self.fresh, "unused": self.unused}
        lines = [", ".join(f"{len(names)} {what}" for what, names in counts.items())]
        for what, names in counts.items():
            if names and what != "loaded":
                lines.append(f"  {what}: {', '.join(names[:6])}{' …' if len(names) > 6 else ''}")
        return "\n".join(lines)


def unet_weights(folder: Path) -> Path:
    """The safetensors of the U-Net in a folder in diffusers' layout, of a whole pipeline or of the U-Net alone.

    Raises
    ------
    DataError
        If there are none.
    """
    path = folder / "unet" / _WEIGHTS if (folder / "unet").is_dir() else folder / _WEIGHTS
    if not path.is_file():
        raise DataError(
            f"There is no U-Net in {folder}.",
            accepted=f"a folder in diffusers' layout with {_WEIGHTS}",
            fix="download the repository's unet/ folder (config.json and the safetensors) and name it here",
        )
    return path


def init_from(model: nn.Module, folder: Path) -> InitReport:
    """Start `model` from any local diffusers U-Net of the same family.

    Tensors of equal name and shape are loaded. Of those that differ in the number of input or output channels
    only (``conv_in`` of a U-Net with three or six input channels, ``conv_out`` that also predicts variances, keys
    and values for another text encoder), the common part is taken over. Everything else keeps its fresh values; but a
    residual block of ours that the weights do not know begins by doing nothing, so that a finished model can be made
    deeper (``--set backbone_options.blocks=4,3,2,1``) and go on from what it is.

    Raises
    ------
    DataError
        If there are no safetensors in `folder`, or nothing in them fits.
    """
    path = unet_weights(folder)
    try:
        given = load_file(path)
    except Exception as error:
        raise DataError(f"{path} cannot be read.", found=str(error)[:200]) from error
    report = InitReport()
    state = model.state_dict()
    for name, own in state.items():
        other = given.pop(name, None)
        if other is None:
            report.fresh.append(name)
        elif other.shape == own.shape:
            own.copy_(other)
            report.loaded.append(name)
        elif _copy_common(own, other, inputs=name == "conv_in.weight"):
            report.adapted.append(name)
        else:
            report.fresh.append(name)
    for name, part in model.named_modules():
        if isinstance(part, ResidualBlock) and f"{name}.conv2.weight" in report.fresh:
            nn.init.zeros_(part.conv2.weight)
    report.unused = sorted(given)
    if not report.loaded:
        raise DataError(
            f"Nothing in {path} fits this backbone.", fix="check --set backbone_options against its config.json"
        )
    return report


@torch.no_grad()
def _copy_common(own: Tensor, other: Tensor, inputs: bool) -> bool:
    """Take over the overlap of two tensors that differ in the first two axes only; False if nothing fits.

    The picture a pre-trained U-Net denoises comes first among its inputs. Ours is y_t, which starts at zero, and
    x_LQ, which looks like a picture: with `inputs` the pre-trained weights therefore go to the x_LQ channels.
    """
    if own.ndim != other.ndim or own.shape[2:] != other.shape[2:] or own.ndim < 1:
        return False
    rows = min(own.shape[0], other.shape[0])
    if own.ndim == 1:
        own[:rows] = other[:rows]
        return True
    columns = min(own.shape[1], other.shape[1])
    if inputs:
        columns = min(OUT_CHANNELS, columns)
        own[:rows, OUT_CHANNELS : OUT_CHANNELS + columns] = other[:rows, :columns]
        return True
    if rows != own.shape[0] and columns != own.shape[1]:
        return False
    own[:rows, :columns] = other[:rows, :columns]
    return True

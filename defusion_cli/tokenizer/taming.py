"""Starting from a VQ-GAN of taming-transformers (Esser et al., CVPR 2021): its tensor names on ours.

That code base numbers levels from the finest in both halves, and writes attention as 1×1 convolutions; diffusers
numbers the decoder's levels from the coarsest, and writes attention as linear layers.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from defusion_cli.errors import DataError
from defusion_cli.tokenizer.model import InstructionTokenizer

_RESNET = {
    "norm1": "norm1",
    "conv1": "conv1",
    "norm2": "norm2",
    "conv2": "conv2",
    "nin_shortcut": "conv_shortcut",
    "conv_shortcut": "conv_shortcut",
}
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_TOP = {"norm_out": "conv_norm_out", "conv_in": "conv_in", "conv_out": "conv_out"}


@dataclass(frozen=True)
class InitReport:
    """What became of a checkpoint's tensors.

    Attributes
    ----------
    loaded
        Our tensors that were copied as they are.
    adapted
        Ours that were copied after a change of shape (1×1 convolutions that became linear layers).
    missing
        Ours that the checkpoint lacks, or has in another size; they keep their initial values.
    ignored
        Tensors of the checkpoint that have no counterpart here (its discriminator, its perceptual loss).
    """

    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    missing: tuple[str, ...]
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        text = (
            f"{len(self.loaded)} tensors loaded, {len(self.adapted)} adapted, {len(self.missing)} keep their "
            f"initial values, {len(self.ignored)} of the checkpoint ignored"
        )
        return text + (f"; initial: {', '.join(self.missing[:8])}" if self.missing else "")


def our_name(name: str, levels: int) -> str | None:
    """The name in `InstructionTokenizer` of a tensor of taming-transformers, or None if there is none.

    Parameters
    ----------
    name
        Such as ``encoder.down.0.block.1.conv1.weight``.
    levels
        Number of levels, for the decoder's numbering.
    """
    module, _, kind = name.rpartition(".")
    if name == "quantize.embedding.weight":
        return "vq.quantize.embedding.weight"
    if module in ("quant_conv", "post_quant_conv"):
        return f"vq.{name}"
    half, _, rest = module.partition(".")
    if half not in ("encoder", "decoder"):
        return None
    if rest in _TOP:
        return f"vq.{half}.{_TOP[rest]}.{kind}"
    inner = _middle(rest) or _level(rest, half, levels)
    return f"vq.{half}.{inner}.{kind}" if inner else None


def _middle(rest: str) -> str | None:
    if match := re.fullmatch(r"mid\.block_([12])\.(\w+)", rest):
        layer = _RESNET.get(match[2])
        return f"mid_block.resnets.{int(match[1]) - 1}.{layer}" if layer else None
    if match := re.fullmatch(r"mid\.attn_1\.(\w+)", rest):
        layer = _ATTENTION.get(match[1])
        return f"mid_block.attentions.0.{layer}" if layer else None
    return None


def _level(rest: str, half: str, levels: int) -> str | None:
    match = re.fullmatch(r"(down|up)\.(\d+)\.(.+)", rest)
    if not match or (match[1] == "down") != (half == "encoder"):
        return None
    number = int(match[2])
    block = f"down_blocks.{number}" if half == "encoder" else f"up_blocks.{levels - 1 - number}"
    inner = match[3]
    if inner in ("downsample.conv", "upsample.conv"):
        return f"{block}.{inner.replace('sample', 'samplers.0', 1)}"
    if part := re.fullmatch(r"(block|attn)\.(\d+)\.(\w+)", inner):
        table, kind = (_RESNET, "resnets") if part[1] == "block" else (_ATTENTION, "attentions")
        layer = table.get(part[3])
        return f"{block}.{kind}.{part[2]}.{layer}" if layer else None
    return None


def read_taming(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``.ckpt`` or ``.safetensors`` file. Nothing but tensors is ever unpickled.

    Raises
    ------
    DataError
        If the file is missing, damaged, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        document = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
        raise DataError(
            f"The checkpoint {path} cannot be read safely.",
            found=f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else 'nothing said'}",
            accepted="a taming-transformers VQ-GAN, .ckpt with nothing but tensors or .safetensors",
            fix="save its state_dict alone, e.g. with safetensors.torch.save_file",
        ) from error
    state = document.get("state_dict", document) if isinstance(document, Mapping) else {}
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise DataError(f"The checkpoint {path} holds no tensors.", accepted='a state_dict, or one under "state_dict"')
    return tensors


def init_from_taming(tokenizer: InstructionTokenizer, path: Path) -> InitReport:
    """Copy every tensor of a taming-transformers VQ-GAN that fits into `tokenizer`.

    Attention layers of ours that the checkpoint lacks (the published f16 model has them on its last level only)
    start as the identity: their output projection is zeroed.

    Raises
    ------
    DataError
        If the file cannot be read, or none of its tensors fits.
    """
    ours = tokenizer.state_dict()
    levels = len(tokenizer.config["block_out_channels"])
    loaded: list[str] = []
    adapted: list[str] = []
    ignored: list[str] = []
    for name, tensor in read_taming(path).items():
        target = our_name(name, levels)
        if target is None or target not in ours or not _fits(tensor, ours[target]):
            ignored.append(name)
            continue
        (loaded if tensor.shape == ours[target].shape else adapted).append(target)
        ours[target] = tensor.reshape(ours[target].shape).to(ours[target].dtype)
    if not loaded:
        raise DataError(
            f"Nothing in {path} fits this tokenizer.",
            found=f"{len(ignored)} tensors, such as {ignored[0]}" if ignored else "no tensors",
            accepted="a taming-transformers VQ-GAN of the same geometry",
            fix="--preset paper for the published ImageNet f16 model",
        )
    missing = sorted(set(ours) - set(loaded) - set(adapted))
    for name in missing:
        if ".attentions." in name and ".to_out.0." in name:
            ours[name] = torch.zeros_like(ours[name])
    tokenizer.load_state_dict(ours)
    return InitReport(tuple(loaded), tuple(adapted), tuple(missing), tuple(ignored))


def _fits(tensor: Tensor, ours: Tensor) -> bool:
    """Same shape, or a 1×1 convolution where we have a linear layer."""
    return tensor.shape == ours.shape or (tensor.shape[2:] == (1, 1) and tensor.shape[:2] == ours.shape)

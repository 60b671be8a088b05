"""Starting from a taming-transformers checkpoint, which the test writes in that code base's layout."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from defusion_cli.errors import DataError
from defusion_cli.tokenizer import InstructionTokenizer
from defusion_cli.tokenizer.taming import init_from_taming, our_name

Tiny = Callable[..., InstructionTokenizer]
CHANNELS = (4, 8, 8)
GEOMETRY = {"block_out_channels": CHANNELS, "layers_per_block": 2, "attention_levels": 1, "latent_channels": 8}


class TamingLayout:
    """The tensor names and shapes of taming-transformers' ``VQModel``, written down from its module tree."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(7)
        self.tensors: dict[str, Tensor] = {}
        self._encoder()
        self._decoder()
        self._put("quantize.embedding.weight", 1024, 256)
        self._conv("quant_conv", 8, 256, 1)
        self._conv("post_quant_conv", 256, 8, 1)
        self._conv("loss.discriminator.main.0", 3, 64, 4)

    def _put(self, name: str, *shape: int) -> None:
        self.tensors[name] = torch.randn(shape, generator=self.generator) * 0.2

    def _conv(self, name: str, inputs: int, outputs: int, size: int = 3) -> None:
        self._put(f"{name}.weight", outputs, inputs, size, size)
        self._put(f"{name}.bias", outputs)

    def _norm(self, name: str, channels: int) -> None:
        self._put(f"{name}.weight", channels)
        self._put(f"{name}.bias", channels)

    def _resnet(self, name: str, inputs: int, outputs: int) -> None:
        self._norm(f"{name}.norm1", inputs)
        self._conv(f"{name}.conv1", inputs, outputs)
        self._norm(f"{name}.norm2", outputs)
        self._conv(f"{name}.conv2", outputs, outputs)
        if inputs != outputs:
            self._conv(f"{name}.nin_shortcut", inputs, outputs, 1)

    def _attention(self, name: str, channels: int) -> None:
        self._norm(f"{name}.norm", channels)
        for layer in ("q", "k", "v", "proj_out"):
            self._conv(f"{name}.{layer}", channels, channels, 1)

    def _middle(self, half: str) -> None:
        self._resnet(f"{half}.mid.block_1", CHANNELS[-1], CHANNELS[-1])
        self._attention(f"{half}.mid.attn_1", CHANNELS[-1])
        self._resnet(f"{half}.mid.block_2", CHANNELS[-1], CHANNELS[-1])

    def _encoder(self) -> None:
        self._conv("encoder.conv_in", 3, CHANNELS[0])
        width = CHANNELS[0]
        for level, channels in enumerate(CHANNELS):
            for block in range(2):
                self._resnet(f"encoder.down.{level}.block.{block}", width, channels)
                width = channels
                if level == len(CHANNELS) - 1:
                    self._attention(f"encoder.down.{level}.attn.{block}", channels)
            if level < len(CHANNELS) - 1:
                self._conv(f"encoder.down.{level}.downsample.conv", channels, channels)
        self._middle("encoder")
        self._norm("encoder.norm_out", width)
        self._conv("encoder.conv_out", width, 8)

    def _decoder(self) -> None:
        width = CHANNELS[-1]
        self._conv("decoder.conv_in", 8, width)
        self._middle("decoder")
        for level in reversed(range(len(CHANNELS))):
            for block in range(3):
                self._resnet(f"decoder.up.{level}.block.{block}", width, CHANNELS[level])
                width = CHANNELS[level]
                if level == len(CHANNELS) - 1:
                    self._attention(f"decoder.up.{level}.attn.{block}", width)
            if level > 0:
                self._conv(f"decoder.up.{level}.upsample.conv", width, width)
        self._norm("decoder.norm_out", width)
        self._conv("decoder.conv_out", width, 3)


@pytest.fixture(params=["ckpt", "safetensors"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkpoint file in either format."""
    path = tmp_path / f"last.{request.param}"
    tensors = TamingLayout().tensors
    if request.param == "ckpt":
        torch.save({"state_dict": tensors, "epoch": 12, "global_step": 3456}, path)
    else:
        save_file(tensors, path)
    return path


def test_every_tensor_of_the_same_geometry_is_loaded(checkpoint: Path, tiny: Tiny) -> None:
    tokenizer = tiny(**GEOMETRY)
    report = init_from_taming(tokenizer, checkpoint)
    assert report.missing == ()
    assert set(report.loaded) | set(report.adapted) == set(tokenizer.state_dict())
    assert set(report.ignored) == {"loss.discriminator.main.0.weight", "loss.discriminator.main.0.bias"}
    attentions = 2 + 3 + 2  # encoder, decoder, the two middle blocks; each with q, k, v and output
    assert len(report.adapted) == 4 * attentions
    assert f"{4 * attentions} adapted" in str(report)


def test_values_arrive_where_they_belong(checkpoint: Path, tiny: Tiny) -> None:
    tokenizer = tiny(**GEOMETRY)
    init_from_taming(tokenizer, checkpoint)
    theirs, vq = TamingLayout().tensors, tokenizer.vq
    encoder, decoder = vq.encoder.down_blocks, vq.decoder.up_blocks
    pairs = {
        "quantize.embedding.weight": tokenizer.codebook,
        "encoder.down.1.block.0.nin_shortcut.weight": encoder[1].resnets[0].conv_shortcut.weight,
        "encoder.down.0.downsample.conv.bias": encoder[0].downsamplers[0].conv.bias,
        # The decoder's levels are numbered the other way round.
        "decoder.up.2.attn.2.q.weight": decoder[0].attentions[2].to_q.weight[:, :, None, None],
        "decoder.up.0.block.1.norm2.weight": decoder[2].resnets[1].norm2.weight,
        "decoder.up.1.upsample.conv.weight": decoder[1].upsamplers[0].conv.weight,
    }
    for name, ours in pairs.items():
        assert torch.equal(ours, theirs[name]), name


def test_level_without_attention_in_the_checkpoint_starts_as_the_identity(checkpoint: Path, tiny: Tiny) -> None:
    """The published f16 model attends on its last level only, the paper's on the last two."""
    tokenizer = tiny(**{**GEOMETRY, "attention_levels": 2})
    report = init_from_taming(tokenizer, checkpoint)
    assert all(".attentions." in name for name in report.missing)
    layer = tokenizer.vq.encoder.down_blocks[1].attentions[0]
    hidden = torch.randn(1, 8, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(layer(hidden), hidden)


def test_checkpoint_of_another_geometry_is_refused_with_the_fix(tmp_path: Path, tiny: Tiny) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"model.diffusion_model.out.weight": torch.zeros(3)}, path)
    with pytest.raises(DataError, match=r"Nothing in .* fits.*\n.*model.diffusion_model.*\n.*\n.*--preset paper"):
        init_from_taming(tiny(**GEOMETRY), path)


class _Payload:
    """What a malicious pickle looks like: unpickling it would create a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.marker,))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, tiny: Tiny) -> None:
    path, marker = tmp_path / "evil.ckpt", tmp_path / "ran"
    torch.save({"state_dict": TamingLayout().tensors, "callback": _Payload(marker)}, path)
    with pytest.raises(DataError, match="cannot be read safely"):
        init_from_taming(tiny(**GEOMETRY), path)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps({"a": 1})])
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_damaged_file_is_an_error_with_a_fix(tmp_path: Path, tiny: Tiny, content: bytes, suffix: str) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError):
        init_from_taming(tiny(**GEOMETRY), path)


UNKNOWN = (
    "encoder.up.0.block.0.conv1.weight",
    "encoder.down.0.block.0.conv3.weight",
    "loss.logvar",
    "quantize.x",
    "nonsense",
)


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_names_have_no_counterpart(name: str) -> None:
    assert our_name(name, 5) is None

"""The tokenizer model: geometry, companding, tokens, and the round trip to disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from defusion_cli.tokenizer import InstructionTokenizer, load_tokenizer
from defusion_cli.training.tokenizer import export_tokenizer
from defusion_cli.training.tokenizer_config import PRESETS

Tiny = Callable[..., InstructionTokenizer]


@pytest.fixture
def instruction() -> torch.Tensor:
    """Two faint random residuals, 2×3×64×64."""
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).mul(0.1).clamp(-1, 1)


def test_an_instruction_becomes_14_by_14_tokens_of_256_dimensions(tiny: Tiny) -> None:
    tokenizer = tiny()
    indices = tokenizer.encode_tokens(torch.zeros(1, 3, 224, 224))
    assert indices.shape == (1, 196)
    assert indices.dtype == torch.int64
    assert int(indices.max()) < 1024
    assert tokenizer.embed(indices).shape == (1, 196, 256)


def test_embedded_vectors_are_centred_and_of_unit_size_over_the_codebook(tiny: Tiny) -> None:
    vectors = tiny().embed(torch.arange(1024)[None]).detach()
    assert vectors.mean((0, 1)).abs().max() < 1e-5
    assert float(vectors.square().mean()) == pytest.approx(1, abs=1e-4)


def test_companding_lifts_faint_residuals_and_inverts(tiny: Tiny) -> None:
    tokenizer = tiny()
    v = torch.tensor([-1.0, -0.04, 0.0, 0.0004, 0.04, 1.0])
    companded = tokenizer.compand(v)
    torch.testing.assert_close(companded, torch.tensor([-1.0, -0.2, 0.0, 0.02, 0.2, 1.0]))
    torch.testing.assert_close(tokenizer.expand(companded), v)


@pytest.mark.parametrize("normalise_codes", [True, False])
def test_each_encoding_gets_its_nearest_entry(instruction: torch.Tensor, normalise_codes: bool, tiny: Tiny) -> None:
    tokenizer = tiny(normalise_codes=normalise_codes)
    with torch.no_grad():
        encoding = tokenizer.encode(instruction)
        flat = encoding.flatten(2).transpose(1, 2)
        by_brute_force = torch.cdist(flat, tokenizer.entries[None]).argmin(-1)
    assert torch.equal(tokenizer.nearest(encoding), by_brute_force)


def test_gradient_passes_straight_through_to_encoder_and_chosen_entries(instruction: torch.Tensor, tiny: Tiny) -> None:
    tokenizer = tiny()
    output = tokenizer(instruction)
    torch.testing.assert_close(output.straight, output.codes)
    (output.reconstruction.square().mean() + output.codes[:, 0].mean()).backward()
    assert float(tokenizer.vq.encoder.conv_in.weight.grad.abs().sum()) > 0
    touched = tokenizer.codebook.grad.abs().sum(1).nonzero().flatten()
    assert torch.equal(touched, output.indices.unique())


def test_the_shape_of_blur_reaches_every_token_once_its_layer_has_weights(
    instruction: torch.Tensor, tiny: Tiny, tmp_path: Path
) -> None:
    plain, seeing = tiny(), tiny(sees_blur_shape=True)
    seeing.load_state_dict(seeing.state_dict() | plain.state_dict())
    torch.testing.assert_close(seeing.encode(instruction), plain.encode(instruction))
    seeing.encode(instruction).square().sum().backward()
    assert float(seeing.blur_input.weight.grad.abs().sum()) > 0
    with torch.no_grad():
        seeing.blur_input.weight.normal_(generator=torch.Generator().manual_seed(1))
    changed = (seeing.encode(instruction) - plain.encode(instruction)).detach().abs().amax(1)
    assert float(changed.min()) > 1e-4
    seeing.save_pretrained(tmp_path)
    torch.testing.assert_close(load_tokenizer(str(tmp_path)).encode(instruction), seeing.encode(instruction))


def test_unquantised_pass_leaves_the_codebook_out(instruction: torch.Tensor, tiny: Tiny) -> None:
    tokenizer = tiny()
    tokenizer(instruction, quantise=False).reconstruction.mean().backward()
    assert tokenizer.codebook.grad is None


def test_only_the_asked_share_is_decoded(instruction: torch.Tensor, tiny: Tiny) -> None:
    tokenizer = tiny()
    output = tokenizer(instruction, decode_every=2)
    assert output.reconstruction.shape == (1, 3, 64, 64)
    assert output.encoding.shape[0] == 2


def test_decoded_tokens_are_a_residual(instruction: torch.Tensor, tiny: Tiny) -> None:
    tokenizer = tiny()
    with torch.no_grad():
        decoded = tokenizer.decode_tokens(tokenizer.encode_tokens(instruction))
        companded = tokenizer(instruction).reconstruction
    assert float(decoded.abs().max()) <= 1
    torch.testing.assert_close(decoded, tokenizer.expand(companded.clamp(-1, 1)), atol=1e-5, rtol=1e-4)


def test_round_trip_through_float16_safetensors(tmp_path: Path, instruction: torch.Tensor, tiny: Tiny) -> None:
    tokenizer = tiny()
    folder = export_tokenizer(tokenizer, tmp_path / "tokenizer")
    assert {path.name for path in folder.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    back = load_tokenizer(str(folder))
    assert back.dtype == torch.float32
    for name, tensor in tokenizer.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor.half().float()), name
    again = load_tokenizer(str(export_tokenizer(back, tmp_path / "again")))
    assert torch.equal(again.encode_tokens(instruction), back.encode_tokens(instruction))


def test_paper_preset_has_the_geometry_of_the_supplement() -> None:
    recipe = PRESETS["paper"]
    assert recipe.block_out_channels == (128, 128, 256, 256, 512)
    with torch.device("meta"):
        tokenizer = InstructionTokenizer(
            recipe.block_out_channels,
            recipe.layers_per_block,
            recipe.attention_levels,
            recipe.latent_channels,
            norm_num_groups=recipe.norm_num_groups,
        )
        encoding = tokenizer.vq.encode(torch.zeros(1, 3, 224, 224)).latents
    assert encoding.shape == (1, 256, 14, 14)
    levels = tokenizer.vq.encoder.down_blocks
    assert [len(level.resnets) for level in levels] == [2] * 5
    assert [hasattr(level, "attentions") for level in levels] == [False, False, False, True, True]
    assert [level.downsamplers is not None for level in levels] == [True] * 4 + [False]

"""The tokenizer model: diffusers' `VQModel` behind a companding of its input.

The residuals of noise, JPEG and blur are around 0.02, those of rain and snow up to 0.8. A reconstruction loss on
the residual itself would spend the whole codebook on rain; the encoder therefore sees, and the decoder restores,
the companded residual sign(v)·|v|^p with p = 0.5, which brings them to 0.14 and 0.9.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin, VQModel
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from defusion_cli.tokenizer.statistics import BLUR_SHAPE_LENGTH, blur_shape


class TokenizerOutput(NamedTuple):
    """What one pass through encoder, codebook and decoder yields."""

    reconstruction: Tensor
    """M×3×H×W, companded residual as the decoder sees it, of the M ≤ N samples that were decoded."""
    encoding: Tensor
    """N×256×h×w, the encoder's output E(v) before quantisation."""
    codes: Tensor
    """N×256×h×w, the nearest codebook entries e (with gradient to the codebook)."""
    straight: Tensor
    """N×256×h×w, values of `codes`, gradient of `encoding`."""
    indices: Tensor
    """N×(h·w) int64 entry numbers."""


class InstructionTokenizer(ModelMixin, ConfigMixin):
    """VQ-GAN over visual instructions (Defusion, supplement section 8; Esser et al., CVPR 2021).

    Every level but the last halves the size, so five levels map 224×224 to 14×14 tokens.

    Parameters
    ----------
    block_out_channels
        Channels of each level, finest first.
    layers_per_block
        Residual blocks a level in the encoder; the decoder has one more.
    attention_levels
        How many of the coarsest levels carry attention, besides the middle block, which always does.
    latent_channels
        Channels between the encoder and the projection to `embed_dim`.
    codebook_size, embed_dim
        Number and dimension of the code vectors.
    norm_num_groups
        Groups of the group normalisations.
    companding
        Exponent p in (0, 1] of sign(v)·|v|^p.
    normalise_codes
        Compare directions only: encodings and entries are scaled to root mean square 1 (the l2-normalised codes of
        Yu et al., "Vector-quantized image modeling with improved VQGAN", ICLR 2022), which keeps a small codebook
        in use. False is the original VQ-GAN.
    sees_blur_shape
        Tell the encoder's middle block `blur_shape` of the whole residual. An encoder of a few channels cannot
        compute how edges differ with their direction, and without it confuses motion blur with defocus. False is the
        original VQ-GAN.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        block_out_channels: tuple[int, ...] = (128, 128, 256, 256, 512),
        layers_per_block: int = 2,
        attention_levels: int = 2,
        latent_channels: int = 256,
        codebook_size: int = 1024,
        embed_dim: int = 256,
        norm_num_groups: int = 32,
        companding: float = 0.5,
        normalise_codes: bool = False,
        sees_blur_shape: bool = False,
    ) -> None:
        super().__init__()
        plain = len(block_out_channels) - attention_levels
        self.vq = VQModel(
            down_block_types=("DownEncoderBlock2D",) * plain + ("AttnDownEncoderBlock2D",) * attention_levels,
            up_block_types=("AttnUpDecoderBlock2D",) * attention_levels + ("UpDecoderBlock2D",) * plain,
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            latent_channels=latent_channels,
            num_vq_embeddings=codebook_size,
            vq_embed_dim=embed_dim,
            norm_num_groups=norm_num_groups,
        )
        self.companding = companding
        self.normalise_codes = normalise_codes
        self.blur_input: nn.Linear | None = None
        if sees_blur_shape:
            self.blur_input = nn.Linear(BLUR_SHAPE_LENGTH, block_out_channels[-1])
            # At zero a tokenizer that was trained without it can be trained on.
            nn.init.zeros_(self.blur_input.weight)
            nn.init.zeros_(self.blur_input.bias)

    @property
    def codebook(self) -> Tensor:
        """The entries as stored, codebook_size×embed_dim."""
        weight: Tensor = self.vq.quantize.embedding.weight
        return weight

    @property
    def entries(self) -> Tensor:
        """The entries as used: scaled to root mean square 1 where codes are normalised."""
        return unit_rms(self.codebook, dim=1) if self.normalise_codes else self.codebook

    def compand(self, instruction: Tensor) -> Tensor:
        """sign(v)·|v|^p of a residual v in [−1, 1]."""
        return instruction.sign() * instruction.abs().pow(self.companding)

    def expand(self, companded: Tensor) -> Tensor:
        """The inverse of `compand`."""
        return companded.sign() * companded.abs().pow(1 / self.companding)

    def encode(self, instruction: Tensor) -> Tensor:
        """E(v): N×3×H×W residual in [−1, 1] to N×embed_dim×h×w, not quantised, always float32."""
        z = self.latents(instruction)
        return unit_rms(z, dim=1) if self.normalise_codes else z

    def latents(self, instruction: Tensor) -> Tensor:
        """What the encoder makes of an N×3×H×W residual, N×embed_dim×h×w, before any normalisation."""
        encoder = self.vq.encoder
        h = encoder.conv_in(self.compand(instruction))
        for block in encoder.down_blocks:
            h = block(h)
        if self.blur_input is not None:
            h = h + self.blur_input(blur_shape(instruction).to(h.dtype))[..., None, None]
        h = encoder.conv_norm_out(encoder.mid_block(h))
        z: Tensor = self.vq.quant_conv(encoder.conv_out(encoder.conv_act(h)))
        return z.float()

    def nearest(self, encoding: Tensor) -> Tensor:
        """Indices, N×(h·w), of the entries nearest to N×embed_dim×h×w encodings."""
        flat = encoding.flatten(2).transpose(1, 2)  # N×hw×d
        # Autocast would compare in bfloat16, and neighbouring entries would swap.
        with torch.autocast(encoding.device.type, enabled=False):
            entries = self.entries.detach().float()
            # |z − e|² less |z|², which is the same for every entry.
            distance = entries.pow(2).sum(1) - 2 * flat.float() @ entries.T
        return distance.argmin(-1)

    def encode_tokens(self, instruction: Tensor) -> Tensor:
        """Tokens of an instruction.

        Parameters
        ----------
        instruction
            N×3×H×W residual v = D(g) − g in [−1, 1]; 224×224 gives 14×14 tokens.

        Returns
        -------
        Tensor
            N×(h·w) int64 entry numbers, row by row.
        """
        return self.nearest(self.encode(instruction))

    def lookup(self, indices: Tensor) -> Tensor:
        """Entries, N×L×embed_dim, of N×L tokens, as the decoder wants them."""
        return F.embedding(indices, self.entries)

    def embed(self, indices: Tensor) -> Tensor:
        """Code vectors, N×L×embed_dim, of N×L tokens: keys and values of the cross-attention.

        Centred on the mean entry and scaled to root mean square 1 over the codebook. Trained entries share a large
        common component (about 0.95 of their length in the shipped model), which says nothing about the damage.
        """
        centred = self.entries - self.entries.mean(0)
        return F.embedding(indices, centred / centred.square().mean().sqrt())

    def decode(self, codes: Tensor) -> Tensor:
        """Companded residual, N×3×H×W, of N×embed_dim×h×w code vectors."""
        decoded: Tensor = self.vq.decoder(self.vq.post_quant_conv(codes))
        return decoded.float()

    def decode_tokens(self, indices: Tensor) -> Tensor:
        """The residual in [−1, 1] that a square grid of N×L tokens stands for."""
        codes = self.lookup(indices).transpose(1, 2)
        side = round(codes.shape[-1] ** 0.5)
        return self.expand(self.decode(codes.unflatten(2, (side, side))).clamp(-1, 1))

    def forward(self, instruction: Tensor, quantise: bool = True, decode_every: int = 1) -> TokenizerOutput:
        """One training pass.

        Parameters
        ----------
        instruction
            N×3×H×W residual in [−1, 1].
        quantise
            False lets the decoder see the encodings themselves.
        decode_every
            Decode only every so manyth sample, from the first.
        """
        encoding = self.encode(instruction)
        indices = self.nearest(encoding)
        codes = self.lookup(indices).transpose(1, 2).unflatten(2, encoding.shape[2:])
        straight = encoding + (codes - encoding).detach() if quantise else encoding
        return TokenizerOutput(self.decode(straight[::decode_every]), encoding, codes, straight, indices)


def unit_rms(x: Tensor, dim: int) -> Tensor:
    """`x` scaled to root mean square 1 along `dim`."""
    return F.normalize(x, dim=dim) * x.shape[dim] ** 0.5


def load_tokenizer(source: str, **options: Any) -> InstructionTokenizer:
    """A tokenizer from a folder in diffusers' layout, in float32 and evaluation mode."""
    model = InstructionTokenizer.from_pretrained(source, use_safetensors=True, **options)
    tokenizer: InstructionTokenizer = model.float().eval().requires_grad_(False)
    return tokenizer

"""The visual instruction tokenizer: a VQ-GAN that turns a residual into 14×14 tokens of 256 dimensions."""

from defusion_cli.tokenizer.model import InstructionTokenizer, TokenizerOutput, load_tokenizer
from defusion_cli.tokenizer.probe import ProbeResult, linear_probe

__all__ = ["InstructionTokenizer", "ProbeResult", "TokenizerOutput", "linear_probe", "load_tokenizer"]

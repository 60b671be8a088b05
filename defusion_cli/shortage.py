"""How Python and torch say that memory is short."""

from __future__ import annotations

import torch

_WORDS = (
    "DefaultCPUAllocator",
    "not enough memory",
    "out of memory",
    "could not create a memory object",
    "_ALLOC_FAILED",  # cuBLAS, cuDNN and cuFFT, which allocate for themselves
)


def is_out_of_memory(error: BaseException) -> bool:
    """True for the errors by which Python, torch on a GPU and torch on a CPU tell that memory is short."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)

"""Starting fast: diffusers without what it brings along and restoring does not use."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_OPTIONAL = ("scipy", "torchvision", "transformers", "peft", "accelerate")
"""Diffusers imports these if it finds them, for schedulers, loaders and models that are not ours."""

_UNUSED = ("torch._dynamo", "torch.nn.attention.flex_attention", "requests")
"""Diffusers takes decorators and names of types from these; they bring most of torch's compiler and SymPy along, and
a client for the web."""


@contextmanager
def light_diffusers() -> Iterator[None]:
    """Import diffusers without what restoring does not use, and keep that away for as long as this lasts.

    Optional packages, torch's compiler and a client for the web are two thirds of the time that passes between
    ``import torch`` and a loaded model; docs/speed.md has the figures. Afterwards all of them can be imported as ever,
    but diffusers goes on believing that the optional ones are missing: this is for a command that ends soon. If
    diffusers or the compiler is there already, or a diffusers of another version wants more than this offers,
    everything is as without it.
    """
    import huggingface_hub.file_download  # noqa: F401  versions that fetch models with requests have it from here on
    import torch

    if "diffusers" in sys.modules or "torch._dynamo" in sys.modules:
        yield
        return
    packages = importlib.metadata.packages_distributions
    away: dict[str, Any] = {name: None for name in _OPTIONAL if name not in sys.modules}
    away |= {name: _Blank(name) for name in _UNUSED if name not in sys.modules}
    sys.modules.update(away)
    vars(torch)["_dynamo"] = away["torch._dynamo"]  # else torch imports the true one at the first look

    # Reads the list of files of everything that is installed, for names of packages that we do not ask for.
    importlib.metadata.packages_distributions = dict

    def bring_back() -> None:
        importlib.metadata.packages_distributions = packages
        for name, stand_in in away.items():
            if sys.modules.get(name, torch) is stand_in:
                del sys.modules[name]
        if vars(torch).get("_dynamo") is away["torch._dynamo"]:
            del vars(torch)["_dynamo"]

    try:
        try:
            import diffusers.models.unets.unet_2d_condition
            import diffusers.pipelines.pipeline_utils  # noqa: F401
        except (ImportError, RuntimeError, AttributeError, TypeError):
            bring_back()
            for name in [name for name in sys.modules if name.split(".")[0] == "diffusers"]:
                del sys.modules[name]
        yield
    finally:
        bring_back()


class _Blank(ModuleType):
    """A module of which every name is a class that no object belongs to, and that decorates by doing nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


class _NothingType(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __call__(cls, function: Any = None, *_: Any, **__: Any) -> Any:
        return (lambda given: given) if function is None else function


class _Nothing(metaclass=_NothingType):
    """See `_Blank`."""

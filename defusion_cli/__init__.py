"""defusion: photo restoration by a diffusion model that is shown what to remove.

From Python::

    from defusion_cli import restore, degrade, make_ground, score, DefusionPipeline

These load on first use, so that ``import defusion_cli`` costs nothing; see `defusion_cli.api`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from defusion_cli.api import degrade, make_ground, restore, score
    from defusion_cli.diffusion import DefusionPipeline

__version__ = "0.1.0"

__all__ = ["DefusionPipeline", "__version__", "degrade", "make_ground", "restore", "score"]

_HOMES = {
    # The packages of these two names are the functions, too: see `defusion_cli.callable_package`.
    "degrade": "defusion_cli.degrade",
    "restore": "defusion_cli.restore",
    "make_ground": "defusion_cli.api",
    "score": "defusion_cli.api",
    "DefusionPipeline": "defusion_cli.diffusion",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    home = importlib.import_module(_HOMES[name])
    return home if home.__name__ == f"{__name__}.{name}" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

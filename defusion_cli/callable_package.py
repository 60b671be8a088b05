"""A package that is a function, too.

``from defusion_cli import restore`` shall be the function that restores, and `defusion_cli.restore` is the package
with what it needs. Whichever of the two Python happens to bind, both uses work::

    restore(picture, "rain")
    from defusion_cli.restore.tiling import cut_tiles
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """Calls the function in `defusion_cli.api` that is called like the package."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the function."""
        return self._function()(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function())

    def _function(self) -> Callable[..., Any]:
        # By name, because the packages lie below the interface, and importing it must wait until somebody calls.
        api = importlib.import_module("defusion_cli.api")
        function: Callable[..., Any] = getattr(api, self.__name__.rpartition(".")[2])
        return function

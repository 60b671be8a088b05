"""Small third-party distributions, good and bad, from tests/fixture_plugins."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from defusion_cli.plugins import Registry, load_registry
from defusion_cli.plugins.host import ENTRY_POINT_GROUP

FIXTURES = Path(__file__).parents[1] / "fixture_plugins"


@pytest.fixture
def registry_with(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Registry]]:
    """Loads what an environment with the given fixture distributions (and defusion itself) would have."""
    before = set(sys.modules)

    def load(*names: str) -> Registry:
        for name in names:
            monkeypatch.syspath_prepend(FIXTURES / name)
        return load_registry(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP))

    yield load
    for name in set(sys.modules) - before:
        if name.startswith("fixture_"):
            del sys.modules[name]

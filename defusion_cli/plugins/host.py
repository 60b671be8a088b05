"""Finding plugins through entry points, and keeping one broken plugin from stopping anything else."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from defusion_cli.errors import PluginError, UsageError, did_you_mean, one_line
from defusion_cli.plugins.attributes import wrong_attribute
from defusion_cli.plugins.contract import Degradation

ENTRY_POINT_GROUP = "defusion.degradations"
OWN_DISTRIBUTION = "defusion"

OWN_ONLY = "DEFUSION_NO_THIRD_PARTY_PLUGINS"
"""Environment variable behind ``--no-third-party-plugins``, so that worker processes heed it, too."""

_TWICE = "another distribution provides it, too"


@dataclass(frozen=True)
class Source:
    """Where a plugin comes from."""

    distribution: str
    version: str
    target: str
    """``module:OBJECT`` as written in the entry point."""

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({self.target})"


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that is installed but cannot be used, and why."""

    name: str
    source: Source
    reason: str
    fix: str


class Registry(Mapping[str, Degradation[Any]]):
    """Degradations by id. An ordinary object: copy it, add to it, hand it on; unchanged if an `add` fails."""

    def __init__(self) -> None:
        self._plugins: dict[str, Degradation[Any]] = {}
        self._sources: dict[str, Source] = {}
        self.broken: list[BrokenPlugin] = []

    def add(self, plugin: object, source: Source) -> None:
        """Add one plugin.

        Raises
        ------
        PluginError
            If it is no `Degradation`, lacks an attribute or has a wrong one, or its id is taken.
        """
        plugin = _usable(plugin, source)
        if plugin.id in self._plugins:
            raise PluginError(
                f"Two distributions provide a degradation named {plugin.id!r}.",
                found=f"{self._sources[plugin.id]} and {source}",
                fix=f"pip uninstall {source.distribution}",
            )
        self._plugins[plugin.id] = plugin
        self._sources[plugin.id] = source

    def remove(self, plugin_id: str) -> None:
        """Take one plugin out; KeyError if it is not there."""
        del self._plugins[plugin_id], self._sources[plugin_id]

    def source(self, plugin_id: str) -> Source:
        """The distribution a plugin comes from."""
        return self._sources[plugin_id]

    def __getitem__(self, plugin_id: str) -> Degradation[Any]:
        if plugin_id in self._plugins:
            return self._plugins[plugin_id]
        for broken in self.broken:
            if broken.name == plugin_id:
                raise PluginError(
                    f"The degradation {plugin_id!r} is installed but cannot be used.",
                    found=f"{broken.source}: {broken.reason}",
                    fix=broken.fix,
                )
        near = did_you_mean(plugin_id, self._plugins)
        raise UsageError(
            f"There is no degradation named {plugin_id!r}.",
            accepted=", ".join(sorted(self._plugins)),
            fix=f"did you mean {near}?" if near else "defusion degrade --list",
        )

    def __contains__(self, plugin_id: object) -> bool:
        return plugin_id in self._plugins

    def __iter__(self) -> Iterator[str]:
        return iter(self._plugins)

    def __len__(self) -> int:
        return len(self._plugins)


def _usable(plugin: object, source: Source) -> Degradation[Any]:
    """`plugin` itself, or a `PluginError` that says why nothing can be done with it."""
    if not isinstance(plugin, Degradation):
        kind = type(plugin).__name__
        raise PluginError(
            f"{source}: what it names is not a degradation.",
            found=kind,
            accepted="an instance of defusion_cli.plugins.Degradation",
        )
    missing = [a for a in ("id", "summary", "position", "Params") if not hasattr(plugin, a)]
    if missing:
        raise PluginError(f"{source}: it lacks the class attribute {', '.join(missing)}.")
    wrong = wrong_attribute(plugin)
    if wrong:
        raise PluginError(f"{source}: {wrong}")
    return plugin


def load_registry(entry_points: Iterable[importlib.metadata.EntryPoint], own_only: bool = False) -> Registry:
    """Load every entry point; those that fail are kept in ``registry.broken`` with their reason.

    With `own_only` the plugins of other distributions than this one are not even imported.

    A second plugin with an id that is already taken makes *both* unusable: which one was meant is not ours
    to guess.
    """
    registry = Registry()
    for entry in sorted(entry_points, key=lambda e: (e.name, e.value)):
        distribution = entry.dist
        source = Source(
            distribution.name if distribution else "unknown distribution",
            distribution.version if distribution else "?",
            entry.value,
        )
        fix = f"pip install --upgrade {source.distribution}"
        if own_only and source.distribution != OWN_DISTRIBUTION:
            fix = "leave out --no-third-party-plugins"
            registry.broken.append(BrokenPlugin(entry.name, source, "third-party plugins are switched off", fix))
            continue
        stray = _stray_built_ins() if source.distribution == OWN_DISTRIBUTION else None
        if stray:
            reason = f"{stray} hides the built-in package of that name"
            registry.broken.append(BrokenPlugin(entry.name, source, reason, f"move or rename {stray}"))
            continue
        try:
            plugin = _usable(entry.load(), source)
            if plugin.id != entry.name:
                raise PluginError(
                    f"{source}: the id must be the name of the entry point.",
                    found=f"id {plugin.id}, entry point {entry.name}",
                )
            if not _refuse_second(registry, plugin, source):
                registry.add(plugin, source)
        except PluginError as error:
            reason = one_line(str(error).removeprefix(f"{source}: "))
            registry.broken.append(BrokenPlugin(entry.name, source, reason, fix))
        except (Exception, SystemExit) as error:  # a stranger's module may raise anything at all on import
            reason = one_line(f"{type(error).__name__}: {error}")
            registry.broken.append(BrokenPlugin(entry.name, source, reason, fix))
    return registry


def _refuse_second(registry: Registry, plugin: Degradation[Any], source: Source) -> bool:
    """If the id of `plugin` is known already, note both owners as broken, take the first one out, and say True."""
    plugin_id = plugin.id
    rivals = [b for b in registry.broken if b.name == plugin_id and b.reason.startswith(_TWICE)]
    if plugin_id in registry:
        first = registry.source(plugin_id)
        registry.remove(plugin_id)
    elif rivals:
        first = rivals[0].source
    else:
        return False
    extra = source if first.distribution == OWN_DISTRIBUTION else first
    fix = f"pip uninstall {extra.distribution}"
    if not rivals:
        registry.broken.append(BrokenPlugin(plugin_id, first, f"{_TWICE}: {source}", fix))
    registry.broken.append(BrokenPlugin(plugin_id, source, f"{_TWICE}: {first}", fix))
    return True


def _stray_built_ins() -> Path | None:
    """The file of another module called ``degradations`` that Python finds before the built-in one, if there is one.

    A file of that name in the working directory is enough for ``python -m defusion_cli``.
    """
    spec = importlib.util.find_spec("degradations")
    if spec is None or spec.origin is None:
        return None
    ours = Path(__file__).resolve().parents[2] / "degradations"
    return None if Path(spec.origin).resolve().parent == ours else Path(spec.origin)


@lru_cache(maxsize=1)
def installed_plugins() -> Registry:
    """All degradations of this Python environment, loaded once; only the built-in ones if `OWN_ONLY` is set."""
    return load_registry(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), bool(os.environ.get(OWN_ONLY)))

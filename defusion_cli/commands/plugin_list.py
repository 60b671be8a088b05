"""The installed degradations and their parameters, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Column, Table

from defusion_cli.plugins import Degradation, Registry, describe_params


def describe_registry(registry: Registry, ids: Sequence[str] = ()) -> dict[str, Any]:
    """Everything about the degradations in `ids` (all of them by default), as plain JSON values."""
    good = [
        {
            "id": plugin_id,
            "version": registry[plugin_id].version,
            "distribution": registry.source(plugin_id).distribution,
            "distribution_version": registry.source(plugin_id).version,
            "summary": registry[plugin_id].summary,
            "position": registry[plugin_id].position.name.lower(),
            "uses_depth": registry[plugin_id].uses_depth,
            "params": describe_params(registry[plugin_id].Params),
        }
        for plugin_id in (ids or sorted(registry))
    ]
    broken = [
        {"id": b.name, "distribution": b.source.distribution, "target": b.source.target, "reason": b.reason}
        for b in ([] if ids else registry.broken)
    ]
    return {"degradations": good, "broken": broken}


def registry_table(registry: Registry) -> Table:
    """Id, version, distribution and summary of all degradations, the broken ones with their reason."""
    table = Table(Column("id", no_wrap=True), "version", "distribution", "what it does")
    for plugin_id in sorted(registry):
        plugin, source = registry[plugin_id], registry.source(plugin_id)
        table.add_row(plugin_id, plugin.version, f"{source.distribution} {source.version}", plugin.summary)
    for broken in registry.broken:
        where = f"{broken.source.distribution} {broken.source.version}"
        table.add_row(broken.name, "-", where, f"broken: {broken.reason}", style="red")
    return table


def parameter_table(plugin: Degradation[Any]) -> Table:
    """Name, default, accepted values, unit and meaning of every parameter of `plugin`."""
    table = Table(Column("parameter", no_wrap=True), "default", "accepted", "unit", "meaning")
    table.title = f"{plugin.id}: {plugin.summary}"
    for row in describe_params(plugin.Params):
        default = f"{row['default']:g}" if isinstance(row["default"], float) else str(row["default"]).lower()
        table.add_row(f"{plugin.id}.{row['name']}", default, _accepted(row), row["unit"], row["meaning"])
    return table


def _accepted(row: Mapping[str, Any]) -> str:
    if row["choices"]:
        return ", ".join(row["choices"])
    if isinstance(row["default"], bool):
        return "true, false"
    return f"{row['low']:g} … {row['high']:g}"

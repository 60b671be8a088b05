"""``defusion degrade``: parse, plan, run, tell."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defusion_cli import console
from defusion_cli.commands.plugin_options import complete_plugin, parse_settings, split_ids
from defusion_cli.errors import DefusionError, UsageError

if TYPE_CHECKING:
    from defusion_cli.degrade import Damage, Plan, Report
    from defusion_cli.plugins import Registry


def degrade(
    source: Annotated[
        Path | None, typer.Argument(metavar="IN", help="Folder of photographs, or one. Without it: a preview.")
    ] = None,
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="Folder for the damaged pictures.")] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            autocompletion=complete_plugin,
            help="Degradation; several, as haze,noise, are applied in this order.",
        ),
    ] = None,
    severity: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="X", help="Strength of all; without it, drawn per picture (0.5 in the preview)."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="ID.NAME=VALUE", help="Force a parameter, as in snow.wind_deg=10."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Decides all that is drawn.")] = 0,
    variants: Annotated[int, typer.Option(min=1, max=9999, metavar="N", help="Damaged versions of each picture.")] = 1,
    orders: Annotated[
        str,
        typer.Option(metavar="given|physical|all", help="Order of several plugins; all: one folder per permutation."),
    ] = "given",
    list_: Annotated[
        bool, typer.Option("--list", help="List the degradations; with --plugin, the parameters of those.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the list or the report as JSON.")] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=1024, metavar="N", help="Processes; without it, one per core.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "--from-manifest",
            metavar="NAME|FILE",
            help="A named recipe: mixed-wed; or make again what a manifest lists, bit for bit.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make pictures again that are there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be made; write nothing.")] = False,
) -> None:
    """Damage photographs as weather, optics and cameras do.

    Lossy pictures become PNG. OUT/defusion-manifest.jsonl tells how each file was made.

    Example: defusion degrade --plugin snow --severity 0.7 photos/ snowy/
    """
    from defusion_cli.degrade import ORDERS, RECIPES, Damage, named_damage, plan_folder, plan_manifest
    from defusion_cli.plugins import installed_plugins

    registry = installed_plugins()
    ids = tuple(split_ids(plugin))
    if list_:
        _list(registry, ids, json)
        return
    if orders not in ORDERS:
        raise UsageError("--orders has no such choice.", found=orders, accepted=", ".join(ORDERS))
    damage = Damage(ids, severity, parse_settings(set_ or ()), seed, variants, orders)
    manifest = Path(recipe) if recipe and recipe not in RECIPES else None
    if recipe and manifest is None:
        damage = named_damage(recipe, damage)
    elif manifest is not None and damage != Damage(()):
        raise UsageError(
            "--from-manifest says all about the damage.", accepted="no --plugin, --severity, --set, --seed, …"
        )
    if source is None and manifest is None:
        _preview(damage, registry, dry_run)
        return
    if source is None or out is None:
        raise UsageError("IN and OUT are needed.", fix="defusion degrade --plugin snow photos/ snowy/")
    if manifest is None:
        plan = plan_folder(source, out, damage, registry)
    else:
        plan = plan_manifest(manifest, source, out, registry)
    if dry_run:
        _show_plan(plan, out)
        return
    _run(plan, out, jobs, overwrite, json)


def _run(plan: Plan, out: Path, jobs: int | None, overwrite: bool, json: bool) -> None:
    from defusion_cli.degrade import Outcome, run_tasks

    # Below some tasks a core, starting processes takes longer than the work.
    jobs = jobs or max(1, min(_cores(), len(plan) // 4))
    fixes: dict[str, None] = {}
    start = time.monotonic()
    with console.progress("Degrading", plan.pictures, "pictures") as bar:

        def watch(outcome: Outcome) -> None:
            if outcome.problem:
                bar.note(f"{outcome.output}: {_one_line(outcome.problem)}")
                if outcome.problem.fix:
                    fixes[outcome.problem.fix] = None
            bar.advance()

        report = run_tasks(plan, out, jobs, overwrite, watch)
    if json:
        manifest = str(report.manifest) if report.manifest else None
        console.print_json("defusion-degrade", {**report.counts, "manifest": manifest})
    elif report.manifest:
        console.result(str(report.manifest))
    _summary(report, time.monotonic() - start, out)
    for fix in fixes:
        console.note(f"  fix: {fix}")
    raise typer.Exit(report.exit_code)


def _one_line(problem: DefusionError) -> str:
    """What failed and why, for a list of files; the fix is told once, at the end."""
    details = [f"{word} {text}" for word, text in (("found", problem.found), ("accepted", problem.accepted)) if text]
    return problem.failed + (f" ({'; '.join(details)})" if details else "")


def _summary(report: Report, seconds: float, out: Path) -> None:
    words = {"written": "written", "kept": "already there", "different": "not as promised", "failed": "failed"}
    console.summary({words[state]: count for state, count in report.counts.items()}, seconds, out)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _show_plan(plan: Plan, out: Path) -> None:
    for task in plan:
        for item in task.items:
            stages = " + ".join(f"{stage.plugin}({_values(stage.params)})" for stage in item.recipe.stages)
            console.result(f"{task.source} -> {out / item.output}: {stages}")


def _values(params: Mapping[str, object]) -> str:
    return ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in params.items())


def _preview(damage: Damage, registry: Registry, dry_run: bool) -> None:
    from dataclasses import replace

    from defusion_cli.degrade import draw_preview, plan_preview
    from defusion_cli.images import write_image

    if damage.severity is None:
        damage = replace(damage, severity=0.5)
    recipes = plan_preview(damage, registry)
    path = Path(f"defusion-preview-{'+'.join(damage.ids)}.png")
    if not dry_run:
        write_image(path, draw_preview(recipes, registry, damage.seed))
    console.note("Left to right: untouched, damaged, and the instruction (grey: unchanged).")
    console.result(str(path))


def _list(registry: Registry, ids: Sequence[str], json: bool) -> None:
    from defusion_cli.commands.plugin_list import describe_registry, parameter_table, registry_table

    if json:
        console.print_json("defusion-degradations", describe_registry(registry, ids))
    elif ids:
        for plugin_id in ids:
            console.show(parameter_table(registry[plugin_id]))
    else:
        console.show(registry_table(registry))

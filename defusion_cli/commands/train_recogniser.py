"""``defusion train-recogniser``: train the network that recognises damage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from defusion_cli.commands.plugin_options import complete_plugin, split_ids


def train_recogniser(
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH[:WEIGHT]", help="Folder of clean photographs, or a mixture FILE.toml. Repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Run folder; an interrupted run in it goes on.")] = Path(
        "runs/recogniser"
    ),
    val: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder of photographs to score on.")] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", autocompletion=complete_plugin, help="Degradations to recognise, as rain,snow. Default: all."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, e.g. shards=50.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, metavar="N", help="Of weights and samples; 0 … 2147483647.")
    ] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
) -> None:
    """Train the network that recognises what is wrong with a photograph, for restore --degradation auto.

    Copy the folder recogniser/ that it writes into the folder of a model.

    Example: defusion train-recogniser --data photos/ --val holdout/ --out runs/recogniser --set shards=50
    """
    from defusion_cli.console import note, print_json, result
    from defusion_cli.training.recogniser_setup import describe, recogniser_setup

    recipe, run = recogniser_setup(settings or [], data or [], out, val=val, plugin_ids=split_ids(plugin), seed=seed)
    if dry_run:
        print_json("train-recogniser", describe(recipe, run))
        return
    from defusion_cli.training.recogniser import train_recogniser as train

    folder, check = train(recipe, run)
    if check is not None:
        for name, share in check.first.items():
            note(f"{name:14} named first {share:4.0%}, alone {check.exact[name]:4.0%}")
        note(f"named first on average {check.top1:.1%} of {check.photos} photographs each, at severity 0.5")
        note(f"false alarms on clean ones {check.alarms:.0%}, as JPEG {check.saved_alarms:.0%}")
        note(f"both of two found {check.both:.0%}, and nothing else {check.exactly_both:.0%}")
    result(str(folder))

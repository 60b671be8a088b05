"""``defusion train``: train the restoration model on your photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from defusion_cli.commands.plugin_options import complete_plugin, split_ids


def train(
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]PATH[:WEIGHT]",
            help="Folder of clean photographs; NAME=PATH of a data set or pairs; or a mixture FILE.toml. Repeatable.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Run folder; an interrupted run in it goes on.")] = Path(
        "runs/defusion"
    ),
    preset: Annotated[
        str,
        typer.Option(
            metavar="default|sharpening|later-steps|paper",
            help="default: a CPU in hours. sharpening: what undoes blur, alone, in minutes; default goes on from it. "
            "later-steps: teaches a finished model (--init-from) what more steps than one are for, in minutes. "
            "paper: the supplement, eight A100.",
        ),
    ] = "default",
    val: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of photographs to score on, at most 8 are used.")
    ] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", autocompletion=complete_plugin, help="Degradations to train, as rain,snow. Default: all."
        ),
    ] = None,
    tokenizer: Annotated[
        str, typer.Option(metavar="FOLDER", help="default, or the folder that train-tokenizer wrote.")
    ] = "default",
    init_from: Annotated[
        Path | None,
        typer.Option(metavar="default|FOLDER", help="Start from the default model, or a diffusers U-Net folder."),
    ] = None,
    gpus: Annotated[
        int, typer.Option(min=0, max=64, metavar="N", help="Processes a node, through torchrun; 0: just this one.")
    ] = 0,
    nodes: Annotated[int, typer.Option(min=1, max=4096, metavar="N", help="Machines; 1 … 4096.")] = 1,
    rdzv_endpoint: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where several machines meet.")] = None,
    max_restarts: Annotated[
        int, typer.Option(min=0, max=1000, metavar="N", help="Restarts after a process has failed; with --gpus.")
    ] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, e.g. steps=5000.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
) -> None:
    """Train the restoration model; the degradations come from the plugins, the clean photographs from you.

    Example: defusion train --data photos/ --val holdout/ --out runs/mine --set steps=20000
    """
    from defusion_cli.console import note, print_json, result
    from defusion_cli.training.checkpoint import stops_explained
    from defusion_cli.training.launch import Cluster, join_cluster, launch, needs_launch
    from defusion_cli.training.setup import describe, diffusion_setup

    cluster = Cluster(gpus, nodes, rdzv_endpoint, max_restarts)
    config, run = diffusion_setup(
        preset,
        settings or [],
        data or [],
        out,
        val=val,
        plugin_ids=split_ids(plugin),
        tokenizer=tokenizer,
        init_from=init_from,
    )
    config.check_shares(cluster.processes)
    if dry_run:
        print_json("train", describe(config, run, cluster.processes))
        return
    with stops_explained(out / "checkpoints"):
        if needs_launch(cluster):
            launch(cluster)
            return
        from defusion_cli.training.diffusion import train_diffusion

        with join_cluster() as rank:
            note(f"{rank.count} process(es), {rank.device.type}; batch {config.phase(0).batch}, {config.steps} steps")
            perceptual = None
            if config.perceptual_weight:
                from defusion_cli.scoring.perceptual import lpips_network

                perceptual = lpips_network(rank.device)
            folder = train_diffusion(config, run, rank, perceptual)
    if folder is not None:
        result(str(folder))

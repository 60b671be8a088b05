"""``defusion train-tokenizer``: train the tokenizer of visual instructions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from defusion_cli.commands.plugin_options import complete_plugin, split_ids


def train_tokenizer(
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run in it goes on.")] = Path("runs/tokenizer"),
    preset: Annotated[
        str, typer.Option(help="default: a CPU in half an hour. paper: the supplement's geometry and losses.")
    ] = "default",
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", autocompletion=complete_plugin, help="Degradations to show, as rain,snow. Default: all."
        ),
    ] = None,
    natural_dir: Annotated[
        Path | None, typer.Option(help="Folder of photographs for the natural element of the grounds.")
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(help="Start from a taming-transformers VQ-GAN (--preset paper), or a tokenizer/ folder of ours."),
    ] = None,
    gpus: Annotated[int, typer.Option(min=0, max=64, help="Processes a node, through torchrun; 0: just this one.")] = 0,
    nodes: Annotated[int, typer.Option(min=1, max=4096, help="Machines; 1 … 4096.")] = 1,
    rdzv_endpoint: Annotated[str | None, typer.Option(help="HOST:PORT of the first machine.")] = None,
    max_restarts: Annotated[
        int, typer.Option(min=0, max=1000, metavar="N", help="Restarts after a process has failed; with --gpus.")
    ] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, e.g. steps=500.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of weights and samples; 0 … 2147483647.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
) -> None:
    """Train the tokenizer that turns visual instructions into 14×14 tokens; it needs no data but the plugins.

    Example: defusion train-tokenizer --plugin rain,snow --set steps=500
    """
    from defusion_cli.console import note, print_json, result
    from defusion_cli.training.checkpoint import stops_explained
    from defusion_cli.training.launch import Cluster, join_cluster, launch, needs_launch
    from defusion_cli.training.tokenizer_setup import describe, tokenizer_setup

    cluster = Cluster(gpus, nodes, rdzv_endpoint, max_restarts)
    recipe, run = tokenizer_setup(
        preset,
        settings or [],
        out,
        plugin_ids=split_ids(plugin),
        natural_dir=natural_dir,
        init_from=init_from,
        seed=seed,
    )
    if dry_run:
        print_json("train-tokenizer", describe(recipe, run, cluster.processes))
        return
    with stops_explained(out / "checkpoints"):
        if needs_launch(cluster):
            launch(cluster)
            return
        from defusion_cli.training.tokenizer import train_tokenizer as train

        with join_cluster() as rank:
            perceptual = None
            if recipe.lpips_weight:
                from defusion_cli.scoring.perceptual import lpips_network

                perceptual = lpips_network(rank.device, "lpips-vgg")
            note(f"{rank.count} process(es) on {rank.device.type}, global batch {recipe.batch}, {recipe.steps} steps")
            probe = train(recipe, run, rank, perceptual)
    if probe is not None:
        worst, share = min(probe.recall.items(), key=lambda item: item[1])
        note(f"linear probe: {probe.accuracy:.1%} of held-out grounds right (worst: {worst}, {share:.0%})")
    result(str(run.out / "tokenizer"))

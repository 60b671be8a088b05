"""``defusion make-ground``: parse, draw, tell."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defusion_cli import console
from defusion_cli.commands.plugin_options import complete_plugin, parse_settings, split_ids

if TYPE_CHECKING:
    from defusion_cli.ground import GroundSet
    from defusion_cli.plugins import Registry


def make_ground(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the pictures; made if missing.")],
    kind: Annotated[
        str,
        typer.Option(
            metavar="visual|simple|blank", help="Test chart, simple shapes on a colour, or nothing but a colour."
        ),
    ] = "visual",
    count: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="Number of grounds.")] = 1,
    size: Annotated[int, typer.Option(min=32, max=1024, metavar="PX", help="Side of a ground, in pixels.")] = 224,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Decides all that is drawn.")] = 0,
    natural_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Your photographs (at most 128), in addition to scikit-image's."),
    ] = None,
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
        typer.Option(min=0, max=1, metavar="X", help="Strength of all; without it, drawn from 0.3 to 1 for each."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="ID.NAME=VALUE", help="Force a parameter, as in snow.wind_deg=10."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the names of all files as JSON.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be made; write nothing.")] = False,
) -> None:
    """Draw visual grounds and their degraded twins.

    With --plugin, each ground comes with its damaged twin and the visual instruction: the difference of the two, as
    a picture (grey: unchanged) and as exact numbers (.npy). A .json beside it tells how they were made.

    Example: defusion make-ground --count 4 --plugin rain,jpeg grounds/
    """
    from defusion_cli.ground import SHEET, GroundSet
    from defusion_cli.plugins import installed_plugins

    plugins = installed_plugins()
    grounds = GroundSet(kind, size, seed, natural_dir, tuple(split_ids(plugin)), severity, parse_settings(set_ or ()))
    grounds.check(plugins)
    if not dry_run:
        _write(out, count, grounds, plugins)
    made = [{what: str(out / name) for what, name in grounds.names(index).items()} for index in range(count)]
    if json:
        payload = {"dry_run": dry_run, "sheet": str(out / SHEET), "grounds": made}
        console.print_json("defusion-make-ground", payload)
    elif dry_run:
        for path in [path for files in made for path in files.values()]:
            console.result(path)
    else:
        console.result(str(out / SHEET))


def _write(out: Path, count: int, grounds: GroundSet, plugins: Registry) -> None:
    from defusion_cli.files import remove_leftovers
    from defusion_cli.ground import MOST_ON_SHEET, SHEET, write_ground, write_sheet

    remove_leftovers(out, deep=False)
    start, shown = time.monotonic(), []
    with console.progress("Drawing", count, "grounds") as bar:
        for index in range(count):
            pictures = write_ground(out, index, grounds, plugins)
            if index < MOST_ON_SHEET:
                shown.append(pictures)
            bar.advance()
    write_sheet(out / SHEET, shown)
    console.summary({"written": count}, time.monotonic() - start, out)

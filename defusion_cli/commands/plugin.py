"""``defusion plugin new|check``: begin a degradation of one's own, and see whether it keeps the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from defusion_cli import console
from defusion_cli.commands.plugin_options import complete_plugin
from defusion_cli.errors import UsageError

_ACTIONS = ("new", "check")


def plugin(
    action: Annotated[str, typer.Argument(metavar="new|check", help="Write a package; or test an installed plugin.")],
    name: Annotated[
        str, typer.Argument(metavar="NAME", autocompletion=complete_plugin, help="Id of the degradation, as in moire.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="new: where to put defusion-plugin-NAME.")] = Path("."),
    json: Annotated[
        bool, typer.Option("--json", help="Print the names of the files, or the verdict, as JSON.")
    ] = False,
) -> None:
    """Begin a degradation of your own, or check one against the contract.

    Example: defusion plugin new rolling-shutter
    """
    from defusion_cli.plugins import check_degradation, installed_plugins
    from defusion_cli.plugins.skeleton import write_skeleton

    if action not in _ACTIONS:
        raise UsageError("There is no such use of plugin.", found=action, accepted="new NAME, check NAME")
    registry = installed_plugins()
    if action == "check":
        check_degradation(registry[name])
        source = registry.source(name)
        if json:
            console.print_json("defusion-plugin-check", {"id": name, "source": str(source), "keeps_contract": True})
        else:
            console.result(f"{name} keeps the contract: {source}")
        return
    files = write_skeleton(name, out, registry)
    folder = files[0].parent
    if json:
        console.print_json("defusion-plugin-new", {"folder": str(folder), "files": [str(path) for path in files]})
    else:
        console.result(str(folder))
    console.note(f"Next: pip install --editable {folder} && defusion degrade --plugin {name}")

"""``defusion export onnx``: the network for programs without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from defusion_cli import console
from defusion_cli.errors import UsageError


def export(
    form: Annotated[str, typer.Argument(metavar="onnx", help="The format.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="File to write.")],
    model: Annotated[str, typer.Option(metavar="default|FOLDER|HUB_ID", help="Model to export.")] = "default",
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare with PyTorch, and time both; needs onnxruntime.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write one-step restoration as an ONNX graph, and the tokens of every degradation beside it.

    The graph takes photo (1×3×H×W in [0, 1], H and W multiples of 16; whole, or a tile), tokens (from OUT.npz),
    thumbnail (the whole photo averaged to 256×256), box (1×4: left, top, right and bottom of the tile in fractions of
    the whole, 0 0 1 1 without tiles) and crops (K×3×128×128, up to 16 parts of the whole at its own resolution, corners
    at multiples of 8, which its noise and compression are read from), and gives the restored photo or tile.

    Example: defusion export onnx defusion.onnx
    """
    if form != "onnx":
        raise UsageError("There is no such format.", found=form, accepted="onnx")
    if out.suffix != ".onnx":
        raise UsageError(
            "OUT must end in .onnx.", found=str(out), fix=f"defusion export onnx {out.with_suffix('.onnx')}"
        )
    from defusion_cli.export import check_onnx, check_packages, export_onnx
    from defusion_cli.plugins import installed_plugins
    from defusion_cli.restore.model import load_pipeline

    check_packages(check)
    pipeline = load_pipeline(model)
    instructions = export_onnx(pipeline, installed_plugins(), out)
    found = check_onnx(pipeline, out) if check else None
    if found is not None:
        console.note(
            f"largest difference from PyTorch {found.difference:.1g}; float32 on the CPU, a megapixel: "
            f"PyTorch {found.torch_seconds:.2f} s, onnxruntime {found.onnx_seconds:.2f} s"
        )
    if json:
        report = {"onnx": str(out), "instructions": str(instructions), "check": vars(found) if found else None}
        console.print_json("defusion-export", report)
    else:
        console.result(str(out))
        console.result(str(instructions))

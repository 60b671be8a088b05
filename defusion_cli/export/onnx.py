"""One-step restoration as an ONNX graph, and the instructions of all degradations beside it.

At t = T the network sees pure noise scaled to zero (see `defusion_cli.diffusion.schedule.precondition`), so that one
step needs no noise: photo, tokens, thumbnail, box and crops in, restored photo out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from defusion_cli.diffusion import DefusionPipeline, make_thumbnail
from defusion_cli.errors import DefusionError, UsageError
from defusion_cli.files import write_atomically
from defusion_cli.grain import describe_grain, grain_crops
from defusion_cli.plugins import Degradation

MULTIPLE_PX = 16
"""Height and width of a picture given to the graph are multiples of this."""

TOLERANCE = 1e-3
"""Largest difference of a value in [0, 1] between PyTorch and the graph."""

_OPSET = 18
_INPUTS = ("photo", "tokens", "thumbnail", "box", "crops")
_CHECKED_SIZES = ((64, 96), (160, 112))
_TIMED_SIZE = (512, 512)  # in small ones the instruction, which costs the same whatever the size, outweighs the pixels


class OneStep(nn.Module):
    """Tiles of one photograph, restored: N×3×H×W.

    From photo (the tiles, N×3×H×W in [0, 1]), tokens (1×K×D), thumbnail (1×3×256×256 in [0, 1]), box (N×4) and, for
    backbones with ``grain``, crops of the whole photograph (`defusion_cli.grain.grain_crops`, K×3×128×128 in [0, 1]).
    """

    def __init__(self, pipeline: DefusionPipeline) -> None:
        super().__init__()
        self.unet: Any = pipeline.unet
        self.last_step = int(pipeline.scheduler.config["num_train_timesteps"]) - 1

    def forward(
        self, photo: Tensor, tokens: Tensor, thumbnail: Tensor, box: Tensor, crops: Tensor | None = None
    ) -> Tensor:
        """The restored photo."""
        x = 2 * photo - 1
        sample = torch.cat([torch.zeros_like(x), x], dim=1)
        conditions = {"thumbnail": 2 * thumbnail - 1, "box": box}
        if crops is not None:
            conditions["grain"] = describe_grain(crops)[None]
        y0 = self.unet(sample, self.last_step, tokens, added_cond_kwargs=conditions, return_dict=False)[0]
        return (photo - y0 / 2).clamp(0, 1)


@dataclass(frozen=True)
class Check:
    """How the graph compares with PyTorch: largest difference, and seconds a megapixel of both on this CPU."""

    difference: float
    torch_seconds: float
    onnx_seconds: float


def check_packages(checked: bool) -> None:
    """Raise `UsageError`, before any work, if a package is missing that an export needs, and its check if `checked`."""
    needed = ("onnx", "onnxscript") + (("onnxruntime",) if checked else ())
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"This needs {' and '.join(missing)}, not installed.", fix="pip install 'defusion[export]'")


def export_onnx(pipeline: DefusionPipeline, plugins: Mapping[str, Degradation[Any]], path: Path) -> Path:
    """Write the graph to `path`, and return the ``.npz`` beside it that holds the tokens of every degradation."""
    graph = OneStep(pipeline).float().eval()
    inputs, named = _inputs(pipeline, *_CHECKED_SIZES[0])
    height, width = torch.export.Dim("height", min=2, max=4096), torch.export.Dim("width", min=2, max=4096)
    sides = {2: MULTIPLE_PX * height, 3: MULTIPLE_PX * width}
    shown = {1: torch.export.Dim("shown", min=2, max=65536)}  # 196 for each instruction
    crops = {0: torch.export.Dim("crops", min=1, max=64)}
    with _silence(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            inputs,
            dynamo=True,
            opset_version=_OPSET,
            input_names=list(named),
            output_names=["restored"],
            dynamic_shapes=(sides, shown, None, None, crops)[: len(inputs)],
        )
        buffer = io.BytesIO()
        program.save(buffer)  # type: ignore[union-attr, arg-type]
    write_atomically(path, buffer.getvalue())
    instructions = path.with_suffix(".npz")
    write_atomically(instructions, _tokens(pipeline, plugins))
    return instructions


def check_onnx(pipeline: DefusionPipeline, path: Path, seconds: float = 2.0) -> Check:
    """Run the graph and PyTorch (both float32) on pictures of two sizes.

    Parameters
    ----------
    seconds
        How long each of the two is timed.

    Raises
    ------
    DefusionError
        If they differ by more than `TOLERANCE`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    graph = OneStep(pipeline).float().eval()
    difference = 0.0
    for size in _CHECKED_SIZES:
        inputs, named = _inputs(pipeline, *size)
        with torch.inference_mode():
            expected = graph(*inputs).numpy()
        difference = max(difference, float(np.abs(session.run(None, named)[0] - expected).max()))
    if not difference <= TOLERANCE:
        raise DefusionError(
            f"The graph in {path} does not compute what PyTorch computes.",
            found=f"a difference of {difference:.2g}",
            accepted=f"{TOLERANCE:g} of values in [0, 1]",
        )
    inputs, named = _inputs(pipeline, *_TIMED_SIZE)
    with torch.inference_mode():
        torch_seconds = _time(lambda: graph(*inputs), seconds)
    return Check(difference, torch_seconds, _time(lambda: session.run(None, named), seconds))


def _time(run: Any, seconds: float) -> float:
    """Seconds a megapixel: the median of the runs that fit into `seconds`, three at least."""
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < seconds:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)) * 1e6 / (_TIMED_SIZE[0] * _TIMED_SIZE[1])


def _inputs(
    pipeline: DefusionPipeline, height: int, width: int
) -> tuple[tuple[Tensor, ...], dict[str, NDArray[np.float32]]]:
    """Random inputs of the graph, for PyTorch and for onnxruntime."""
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand((1, 3, height, width), generator=generator)
    box = torch.tensor([[0.1, 0.25, 0.6, 0.9]])  # left, top, right, bottom of a tile
    inputs: tuple[Tensor, ...] = (photo, torch.randn((1, 196, 256), generator=generator), make_thumbnail(photo), box)
    if pipeline.sees_grain:
        inputs += (grain_crops(photo),)
    return inputs, dict(zip(_INPUTS, (value.numpy() for value in inputs), strict=False))


def _tokens(pipeline: DefusionPipeline, plugins: Mapping[str, Degradation[Any]]) -> bytes:
    tokens: dict[str, NDArray[np.float32]] = {
        plugin_id: pipeline.encode_names([plugin_id], plugins).float().cpu().numpy() for plugin_id in sorted(plugins)
    }
    buffer = io.BytesIO()
    np.savez(buffer, **tokens)  # type: ignore[arg-type]
    return buffer.getvalue()


@contextlib.contextmanager
def _silence() -> Any:
    """The exporter tells its story on stdout, in warnings and in the log."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)

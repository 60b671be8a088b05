"""What a training step of the default preset consists of, and whether views are made fast enough for it.

    python tests/benchmarks/bench_training.py [PHOTOS] --markdown docs/speed.md

One thread. The convolutions of the step are timed again one by one, forward and backward in bfloat16: their GFLOP/s are
what convolutions achieve on this machine, and the step is compared with them. Views have kernels of their own, so that
most convolutions see only the crops of one view; what they would take with one kernel for all crops is told beside it.
Processor time throughout, but for the last row, in which the trainer has one core and one data-loader process another.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from outputs import add_outputs, leave
from torch import nn
from torch.overrides import TorchFunctionMode

from defusion_cli.allocator import keep_freed_memory
from defusion_cli.data.loader import Batch, view_batches
from defusion_cli.data.sources import parse_source
from defusion_cli.data.synthesis import SynthesisConfig, ViewMaker
from defusion_cli.plugins import installed_plugins
from defusion_cli.restore.model import load_pipeline
from defusion_cli.training.checkpoint import save_checkpoint
from defusion_cli.training.diffusion_config import PRESETS, DiffusionConfig
from defusion_cli.training.diffusion_state import DiffusionRun, DiffusionTraining
from defusion_cli.training.launch import Rank
from defusion_cli.training.log import RunLog

CONVOLUTION, UPKEEP, FED = 0.7, 0.1, 0.95
"""Asked for: GFLOP/s of the step over those of its convolutions alone; the most of it that optimiser, average, logging
and checkpoints may take; the step rate on real data over that on ready tensors."""
PHOTOS = Path("examples/clean")
ALONE = Rank(0, 1, torch.device("cpu"))


def preset() -> DiffusionConfig:
    """The default preset from the step on at which it sees crops, with few instructions."""
    return dataclasses.replace(PRESETS["default"], instruction_slots=1, coarse_steps=0)


def view_maker(photos: Path) -> ViewMaker:
    """Views of `photos` under all built-in degradations."""
    plugins = installed_plugins()
    return ViewMaker([parse_source(str(photos))], sorted(plugins), plugins, preset().synthesis)


def start(photos: Path, rank: Rank = ALONE) -> DiffusionTraining:
    """A fresh training."""
    maker = view_maker(photos)
    tokenizer = load_pipeline("default").tokenizer
    run = DiffusionRun(Path("unused"), maker.sources, maker.ids, maker.plugins, tokenizer)
    return DiffusionTraining(preset(), run, rank)


def plain(step: int) -> SynthesisConfig:
    """One kind of damage a view, at every step."""
    return preset().synthesis.plain()


def batches(photos: Path, steps: int, rank: Rank = ALONE, workers: int = 0) -> Iterator[Batch]:
    """Batches of the first steps."""
    config = preset()
    share = rank.share(config.views(0))
    return view_batches(view_maker(photos), 0, range(steps), config.crop_px, lambda _: share, workers, plain)


def seconds(work: Callable[[], Any], times: int, clock: Callable[[], float] = time.process_time) -> float:
    """Median of several runs after one that does not count."""
    work()
    taken = []
    for _ in range(times):
        begin = clock()
        work()
        taken.append(clock() - begin)
    return statistics.median(taken)


class _Convolutions(TorchFunctionMode):
    """Counts convolutions by shapes without the number of samples, stride, padding, what is learnt, and that number."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[tuple[Any, ...]] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is torch.conv2d:
            bound = inspect.signature(_conv2d).bind(*args, **(kwargs or {}))
            bound.apply_defaults()
            x, weight, _, stride, padding = bound.args[:5]
            learns = (False, False) if not output.requires_grad else (x.requires_grad, weight.requires_grad)
            shapes = tuple(x.shape[1:]), tuple(weight.shape), tuple(output.shape[1:])
            self.seen[(*shapes, _pair(stride), _pair(padding), learns, len(x))] += 1
        return output


def _conv2d(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, *others: Any) -> None:
    """How `torch.conv2d` is called."""


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def convolutions(training: DiffusionTraining, batch: Batch, times: int) -> tuple[float, float, float]:
    """GFLOP of all convolutions of a step; the seconds that they take alone, and if all crops had the same kernels."""
    with _Convolutions() as noted:
        training.train_step(batch)
    together: Counter[tuple[Any, ...]] = Counter()
    for (*kind, n), count in noted.seen.items():
        together[tuple(kind)] += n * count
    work, alone, at_once = 0.0, 0.0, 0.0
    for (*kind, n), count in noted.seen.items():
        alone += count * convolution_seconds(*kind, n=n, times=times)
    for kind, samples in together.items():
        _, of_w, of_y, *_, learns = kind
        n = min(samples, len(batch.lq))
        at_once += samples / n * convolution_seconds(*kind, n=n, times=times)
        work += samples * 2e-9 * np.prod(of_w) * of_y[1] * of_y[2] * (1 + sum(learns))
    return work, alone, at_once


def convolution_seconds(
    of_x: tuple[int, ...],
    of_w: tuple[int, ...],
    of_y: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
    learns: tuple[bool, bool],
    n: int,
    times: int,
) -> float:
    """Seconds for one convolution of `n` samples and what of its gradients is wanted (of input and kernel)."""
    x, w, dy = (torch.randn(s).bfloat16() for s in ((n, *of_x), of_w, (n, *of_y)))
    x, w, dy = (each.to(memory_format=torch.channels_last) for each in (x, w, dy))
    bias, wanted = torch.zeros(of_w[0], dtype=torch.bfloat16), [*learns, learns[1]]

    def both() -> None:
        torch.conv2d(x, w, bias, stride, padding)
        if any(wanted):
            torch.ops.aten.convolution_backward(
                dy, x, w, [len(bias)], stride, padding, (1, 1), False, (0, 0), 1, wanted
            )

    return seconds(both, times)


def upkeep(training: DiffusionTraining, batch: Batch, times: int) -> dict[str, float]:
    """Seconds a step for what is not the gradient."""
    config = training.config
    training._loss(batch, range(len(batch.numbers))).backward()
    parts = {
        "optimiser": seconds(lambda: training.optimisers.step(config.lr_min), times),
        "gradient clipping": seconds(
            lambda: nn.utils.clip_grad_norm_(training.model.parameters(), config.grad_clip), times
        ),
        "average of weights": seconds(lambda: [training.ema.update(training.model, 1000 + k) for k in (0, 1)], times)
        / 2,
    }
    training.optimisers.zero_grad()
    with tempfile.TemporaryDirectory() as folder:
        log, state = RunLog(Path(folder)), training.state()
        row = {"loss": 1.0, "grad_norm": 1.0, "lr": 1.0, "samples_per_s": 1.0, "waiting": 0.0}
        parts["logging"] = seconds(lambda: log.add(1, row), times) / config.log_every
        parts["checkpoint"] = (
            seconds(lambda: save_checkpoint(Path(folder), 1, state), 3, time.perf_counter) / config.save_every
        )
        log.close()
    return parts


def view_seconds(photos: Path, views: int) -> float:
    """Processor time of one view of the first phase, mixtures included, mean."""
    maker, side = view_maker(photos), preset().crop_px(0)
    maker.draw(np.random.default_rng(0), side)
    begin = time.process_time()
    for number in range(views):
        maker.draw(np.random.default_rng([1, number]), side)
    return (time.process_time() - begin) / views


def fed(training: DiffusionTraining, photos: Path, batch: Batch, steps: int) -> dict[str, float]:
    """Steps a second on a ready batch and on those that one data-loader process makes, and the share spent waiting."""
    stream = batches(photos, steps + 3, workers=1)
    for _ in range(3):  # until the process runs and most kinds of instruction are known
        training.train_step(next(stream))
    rates, waited = [], 0.0
    for source in (iter([batch] * steps), stream):
        begin, waited = time.perf_counter(), 0.0
        for _ in range(steps):
            asked = time.perf_counter()
            each = next(source)
            waited += time.perf_counter() - asked
            training.train_step(each)
        rates.append(steps / (time.perf_counter() - begin))
    return {"steps_per_second_ready": rates[0], "steps_per_second_real": rates[1], "waiting": waited * rates[1] / steps}


def measure(photos: Path, times: int, steps: int) -> dict[str, Any]:
    """All figures."""
    keep_freed_memory()
    torch.set_num_threads(1)
    training, batch = start(photos), next(batches(photos, 1))
    step = seconds(lambda: training.train_step(batch), times)
    work, alone, at_once = convolutions(training, batch, times)
    return {
        "crops": len(batch.lq),
        "crop_px": batch.lq.shape[-1],
        "step_seconds": step,
        "convolution_gflop": work,
        "convolution_seconds_alone": alone,
        "convolution_seconds_at_once": at_once,
        "upkeep_seconds": upkeep(training, batch, times),
        "views_a_step": len(batch.numbers),
        "view_seconds": view_seconds(photos, 20 * times),
    } | (fed(training, photos, batch, steps) if steps else {})


def kept_seconds(result: dict[str, Any]) -> float:
    """Optimiser, average of weights, logging and checkpoint together, a step."""
    return sum(value for name, value in result["upkeep_seconds"].items() if name != "gradient clipping")


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    step, work = result["step_seconds"], result["convolution_gflop"]
    alone, at_once = result["convolution_seconds_alone"], result["convolution_seconds_at_once"]
    each = ", ".join(f"{name} {1000 * value:.1f}" for name, value in result["upkeep_seconds"].items())
    making = result["views_a_step"] * result["view_seconds"]
    lines = [
        f"| step of {result['crops']} crops of {result['crop_px']} px, one thread | | asked for |",
        "|---|---|---|",
        f"| whole step | {step:.3f} s, {work / step:.0f} GFLOP/s of convolutions | |",
        f"| its convolutions alone | {alone:.3f} s, {work / alone:.0f} GFLOP/s | |",
        f"| the step reaches of that | {alone / step:.0%} | {CONVOLUTION:.0%} |",
        f"| the same without kernels for each view | {at_once:.3f} s, {work / at_once:.0f} GFLOP/s | |",
        f"| the step reaches of that | {at_once / step:.0%} | |",
        f"| optimiser, average, logging, checkpoint | {kept_seconds(result) / step:.1%} (ms: {each}) | {UPKEEP:.0%} |",
        f"| making its {result['views_a_step']} views | {making:.3f} s, {making / step:.0%} of a core | |",
    ]
    if "waiting" in result:
        share = result["steps_per_second_real"] / result["steps_per_second_ready"]
        lines.append(f"| step rate on real data over that on ready tensors | {share:.1%} | {FED:.0%} |")
        lines.append(f"| waiting for real data | {result['waiting']:.1%} | |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; exit with 1 if one of its figures misses what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", default=PHOTOS)
    parser.add_argument("--times", type=int, default=9, help="runs of everything, default 9")
    parser.add_argument("--steps", type=int, default=20, help="steps on real data, default 20; 0 leaves them out")
    add_outputs(parser)
    arguments = parser.parse_args()
    result = measure(arguments.photos, arguments.times, arguments.steps)
    leave(arguments, "Training step of the default preset", table(result), result)
    share = result["steps_per_second_real"] / result["steps_per_second_ready"] if arguments.steps else 1.0
    step = result["step_seconds"]
    short = result["convolution_seconds_alone"] < CONVOLUTION * step or share < FED
    return int(short or kept_seconds(result) > UPKEEP * step)


if __name__ == "__main__":
    sys.exit(main())

"""The recipe of `defusion train`: diffusion of the damage y₀ = x_LQ − x_target, conditioned on x_LQ and instruction.

The same code runs alone or under torchrun. Every sample, its noise and its time step depend on (seed, step, number)
only, so neither the number of processes nor an interruption changes what is computed.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from defusion_cli.allocator import keep_freed_memory
from defusion_cli.console import Bar, progress
from defusion_cli.data.loader import view_batches
from defusion_cli.data.sources import describe_photographs
from defusion_cli.data.synthesis import ViewMaker
from defusion_cli.data.workers import deaths_explained
from defusion_cli.interrupt import Stop, patient_interrupt
from defusion_cli.training.checkpoint import remember_recipe, resume, save_checkpoint
from defusion_cli.training.diffusion_config import DiffusionConfig
from defusion_cli.training.diffusion_state import DiffusionRun, DiffusionTraining
from defusion_cli.training.export import export
from defusion_cli.training.guard import shortage_explained
from defusion_cli.training.launch import Rank
from defusion_cli.training.log import RunLog
from defusion_cli.training.tokenizer_state import Perceptual
from defusion_cli.training.validation import Validation

_MAY_CHANGE = {
    "steps",
    "validate_every",
    "save_every",
    "log_every",
    "workers",
    "micro_batch",
    "photographs",
    "refinement",
    "faint_refinement",
}
"""Settings that may differ when a run goes on; `steps` moves the end of the schedule."""


def train_diffusion(
    config: DiffusionConfig, run: DiffusionRun, rank: Rank, perceptual: Perceptual | None = None
) -> Path | None:
    """Train, or go on training, until ``config.steps``; returns the exported pipeline's folder on rank zero.

    Parameters
    ----------
    perceptual
        See `DiffusionTraining`.

    Raises
    ------
    UsageError
        If the run folder belongs to another recipe.
    DataError
        If a checkpoint or a training picture cannot be read.
    """
    keep_freed_memory()
    config.check_shares(rank.count)
    if rank.is_main:
        facts = {"ids": list(run.ids), "photographs": describe_photographs(run.sources)}
        remember_recipe(run.out, dataclasses.asdict(config) | facts, _MAY_CHANGE)
    training = DiffusionTraining(config, run, rank, perceptual)
    resumed = resume(run.out / "checkpoints", rank, training.load_state)
    with progress("Training", config.steps, "steps", done=training.step) as bar:
        if training.init_report and not resumed:
            bar.note(f"weights from {run.init_from}: {training.init_report}")
        with patient_interrupt(patient_on_sigterm=True) as stop, deaths_explained(), shortage_explained("micro_batch"):
            _loop(training, run, bar, stop)
    return export(training.pipeline(), run.out / "model") if rank.is_main else None


def _loop(training: DiffusionTraining, run: DiffusionRun, bar: Bar, stop: Stop) -> None:
    config, rank = training.config, training.rank
    log = RunLog(run.out, training.step) if rank.is_main else None
    check = Validation(run.validation, run.ids, run.plugins) if rank.is_main and run.validation else None
    batches = view_batches(
        ViewMaker(run.sources, run.ids, run.plugins, config.synthesis),
        config.seed,
        range(training.step, config.steps),
        config.crop_px,
        lambda step: rank.share(config.views(step)),
        config.workers,
        config.synthesis_at,
    )
    window = _Window()
    for batch in batches:
        window.got_batch()
        values = training.train_step(batch)
        window.did_step(values["loss"], len(batch.lq) * rank.count)
        step, end = training.step, training.step == config.steps
        bar.advance()
        rank.agree(stop)
        if log is None:
            rank.leave_if_asked(stop)
            continue
        if step % config.log_every == 0 or end:
            row = values | window.summary()
            log.add(step, row)
            bar.status(f"loss {row['loss']:.3f}, {row['samples_per_s']:.1f} crops/s, waiting {row['waiting']:.0%}")
        if step % config.save_every == 0 or end or stop.agreed:
            save_checkpoint(run.out / "checkpoints", step, training.state())
        rank.leave_if_asked(stop)
        if check and (step % config.validate_every == 0 or end):
            scores = check.run(training.pipeline(), training.bank, run.out / "pictures" / f"step-{step:08d}.jpg")
            log.add(step, {f"gain/{name}": score.gain for name, score in scores.items()})
            log.plot()
            bar.note(
                f"step {step}: " + "  ".join(f"{name} {score.gain:+.2f}" for name, score in scores.items()) + " dB"
            )
    if log is not None:
        log.close()


class _Window:
    """Means since the last summary: loss, samples a second, and the share of time spent waiting for data."""

    def __init__(self) -> None:
        self._reset()
        self._mark = time.monotonic()

    def _reset(self) -> None:
        self._start, self._waited, self._samples, self._losses = time.monotonic(), 0.0, 0, []  # type: ignore[var-annotated]

    def got_batch(self) -> None:
        self._waited += time.monotonic() - self._mark

    def did_step(self, loss: float, samples: int) -> None:
        self._losses.append(loss)
        self._samples += samples
        self._mark = time.monotonic()

    def summary(self) -> dict[str, float]:
        elapsed = max(time.monotonic() - self._start, 1e-9)
        values = {
            "loss": sum(self._losses) / len(self._losses),
            "samples_per_s": self._samples / elapsed,
            "waiting": min(1.0, self._waited / elapsed),
        }
        self._reset()
        return values

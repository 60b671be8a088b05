"""The recipe of the tokenizer: a VQ-GAN on instructions that are drawn on the fly.

Alone or under torchrun, with the same effective batch; resumable at any step.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from defusion_cli.console import note, progress
from defusion_cli.data.workers import deaths_explained
from defusion_cli.errors import DataError
from defusion_cli.files import staged_folder, write_atomically
from defusion_cli.images import list_image_names
from defusion_cli.interrupt import Stop, patient_interrupt
from defusion_cli.tokenizer.model import InstructionTokenizer, load_tokenizer
from defusion_cli.tokenizer.probe import ProbeResult, linear_probe
from defusion_cli.tokenizer.taming import InitReport, init_from_taming
from defusion_cli.training.checkpoint import remember_recipe, resume, save_checkpoint
from defusion_cli.training.guard import shortage_explained
from defusion_cli.training.instructions import InstructionSource, instruction_batches
from defusion_cli.training.launch import Rank
from defusion_cli.training.log import RunLog
from defusion_cli.training.tokenizer_config import TokenizerRecipe
from defusion_cli.training.tokenizer_state import Perceptual, TokenizerTraining


@dataclass(frozen=True)
class TokenizerRun:
    """Where a run reads and writes.

    Attributes
    ----------
    out
        Run folder: checkpoints, metrics, pictures, and at the end ``tokenizer/`` in diffusers' layout.
    source
        Plugins and grounds.
    seed
        Of everything random.
    init_from
        A taming-transformers checkpoint, or the folder of a tokenizer of ours, to start from.
    workers
        Processes that draw instructions, besides the training itself.
    """

    out: Path
    source: InstructionSource
    seed: int = 0
    init_from: Path | None = None
    workers: int = 1


def train_tokenizer(
    recipe: TokenizerRecipe, run: TokenizerRun, rank: Rank, perceptual: Perceptual | None = None
) -> ProbeResult | None:
    """Train, or go on training, until ``recipe.steps``; export the model and probe it.

    Parameters
    ----------
    perceptual
        LPIPS or the like; needed if ``recipe.lpips_weight`` is not zero.

    Returns
    -------
    ProbeResult or None
        How well the exported tokenizer tells the plugins apart; None off rank zero, or with fewer than two plugins.

    Raises
    ------
    UsageError
        If the run folder belongs to another recipe.
    DataError
        If a checkpoint cannot be read.
    """
    training = TokenizerTraining(recipe, run.seed, rank, len(run.source.ids), perceptual)
    if rank.is_main:
        settings = {"seed": run.seed, "plugins": list(run.source.ids)}
        settings["photographs"] = _describe_photographs(run.source.natural_dir)
        remember_recipe(run.out, dataclasses.asdict(recipe) | settings, may_change=("photographs",))
    if resume(run.out / "checkpoints", rank, training.load_state):
        note(f"going on from step {training.step}")
    elif run.init_from is not None:
        _start_from(training.tokenizer, run.init_from)
    with patient_interrupt(patient_on_sigterm=True) as stop, deaths_explained(), shortage_explained("batch"):
        _train(training, run, stop)
    if not rank.is_main:
        return None
    folder = export_tokenizer(training.tokenizer, run.out / "tokenizer")
    if len(run.source.ids) < 2:
        return None
    tokenizer = load_tokenizer(str(folder))
    return linear_probe(tokenizer, run.source.ids, run.source.plugins, run.seed, recipe.probe_counts)


def _describe_photographs(folder: Path | None) -> str:
    """How many photographs the user adds to the grounds, and a digest of their names, wherever the folder may lie."""
    if folder is None:
        return "none of the user"
    names = list_image_names(folder)
    digest = hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()
    return f"{len(names)} files, {digest[:8]}"


def _start_from(tokenizer: InstructionTokenizer, source: Path) -> None:
    """Take over the weights of a taming-transformers file, or of a tokenizer of ours with the same geometry."""
    if source.is_file():
        report: InitReport = init_from_taming(tokenizer, source)
        note(f"{source}: {report}")
        return
    try:
        state = load_tokenizer(str(source)).state_dict()
        # One that was trained without the descriptor of blur: its layer stays at zero.
        own = {name: value for name, value in tokenizer.state_dict().items() if name.startswith("blur_input.")}
        tokenizer.load_state_dict(own | state)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"The tokenizer in {source} cannot be taken over.",
            found=str(error).splitlines()[0][:200],
            accepted="a tokenizer of the same geometry",
        ) from error


def _train(training: TokenizerTraining, run: TokenizerRun, stop: Stop) -> None:
    recipe, rank = training.recipe, training.rank
    log = RunLog(run.out, training.step) if rank.is_main else None
    steps = range(training.step, recipe.steps)
    batches = instruction_batches(run.source, run.seed, recipe.batch, training.share, steps, run.workers)
    started = time.monotonic()
    with progress("Training", recipe.steps * recipe.batch, "samples", training.step * recipe.batch) as bar:
        for instruction, present in batches:
            losses = training.train_step(instruction, present)
            step, last = training.step, training.step == recipe.steps
            bar.advance(recipe.batch)
            reporting = step % recipe.log_every == 0 or last
            values = training.metrics(losses) if reporting else {}
            rank.agree(stop)
            saving = step % recipe.checkpoint_every == 0 or last or stop.agreed
            if reporting or saving:
                training.check_finite()
            if log is None:
                rank.leave_if_asked(stop)
                continue
            if reporting:
                rate = (step - steps.start) * recipe.batch / (time.monotonic() - started)
                log.add(step, {**values, "samples_per_s": rate})
                bar.status(f"loss {values['total']:.4f}, perplexity {values.get('perplexity', 0):.0f}")
            if saving:
                save_checkpoint(run.out / "checkpoints", step, training.state())
            if step % recipe.picture_every == 0 or last:
                log.plot()
                write_picture(training.tokenizer, instruction, run.out / "pictures" / f"step-{step:08d}.png")
            rank.leave_if_asked(stop)
    if log is not None:
        log.close()


def export_tokenizer(tokenizer: InstructionTokenizer, folder: Path) -> Path:
    """Write ``config.json`` and float16 safetensors; the model in memory stays as it is."""
    copy = InstructionTokenizer.from_config(tokenizer.config)
    copy.load_state_dict(tokenizer.state_dict())
    with staged_folder(folder) as temporary:
        copy.half().save_pretrained(temporary, safe_serialization=True)
    return folder


@torch.no_grad()
def write_picture(tokenizer: InstructionTokenizer, instructions: Tensor, path: Path, count: int = 8) -> None:
    """Companded instructions above their reconstructions, mid-grey where there is no damage."""
    shown = instructions[:count].to(tokenizer.device)
    rows = [tokenizer.compand(shown), tokenizer(shown).reconstruction.clamp(-1, 1)]
    sheet = torch.cat([torch.cat(list(row), 2) for row in rows], 1)  # 3×2H×(count·W)
    pixels = ((sheet.permute(1, 2, 0).cpu().numpy() + 1) * 127.5).round().astype(np.uint8)
    write_atomically(path, cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())

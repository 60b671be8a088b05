"""Kill ``defusion`` at random moments, look at what is left, run it again, and compare with an undisturbed run.

    python tests/chaos.py [--kills 50] [--seed 0] [restore degrade train train-tokenizer]     (or: make chaos)

After each kill −9 nothing half-written may have a final name, and no checkpoint may be gone. After one to three kills
in the same folder the command is left alone: it has to finish, with the same bytes as if nothing had happened.
Runs are forks of this process, so that kills fall into the work and not into the loading of libraries.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from skimage import data

_TINY_UNET = ("widths=8,8", "blocks=1,1", "condition_dim=16", "heads=2")
_TRAIN = (
    "steps=8", "phases=32x4@1", "warmup=2", "instruction_slots=1", "log_every=1", "save_every=2", "workers=0",
    "synthesis.view_px=64", "synthesis.crops_per_view=2", *(f"backbone_options.{option}" for option in _TINY_UNET),
)  # fmt: skip
_TOKENIZER = (
    "block_out_channels=4,4,8,8,8", "latent_channels=8", "norm_num_groups=2", "discriminator_channels=4", "bf16=false",
    "ground_px=64", "crop_px=32", "steps=8", "batch=4", "warmup_steps=0", "codebook_start=2", "revive_every=2",
    "gan_start=4", "log_every=1", "checkpoint_every=2", "picture_every=4", "probe_counts=4,2", "decode_every=2",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A command line that writes into a folder, and what can be said of that folder.

    Attributes
    ----------
    arguments
        From the folder to the command line.
    whole
        Raises if something in the folder is not whole, seen against that of an undisturbed run; returns the progress.
    result
        What has to be equal in the end.
    """

    arguments: Callable[[Path], list[str]]
    whole: Callable[[Path, Path], int]
    result: Callable[[Path], dict[str, str]]


def cases(folder: Path) -> dict[str, Case]:
    """The commands, and in `folder` what they need."""
    from tiny import save_tiny_model

    photos, model = folder / "photos", folder / "model"
    if not photos.is_dir():
        _draw_photos(photos)
        save_tiny_model(model)
    options = lambda settings: [word for setting in settings for word in ("--set", setting)]  # noqa: E731
    plugins = ["--plugin", "noise", "--plugin", "haze"]
    train = ["--data", str(photos), "--tokenizer", str(model / "tokenizer"), *plugins, *options(_TRAIN)]
    return {
        "restore": Case(
            lambda out: [
                "restore",
                str(photos),
                str(out),
                "--degradation",
                "blind",
                "--model",
                str(model),
                "--tile",
                "128",
            ],
            _whole_pictures,
            _pictures,
        ),
        "degrade": Case(
            lambda out: ["degrade", str(photos), str(out), "--plugin", "rain", "--jobs", "1", "--variants", "2"],
            _whole_pictures,
            lambda out: _pictures(out) | _digests(out, "defusion-manifest.jsonl"),
        ),
        "train": Case(
            lambda out: ["train", "--out", str(out), *train],
            functools.partial(_whole_run, product="model"),
            functools.partial(_run, product="model"),
        ),
        "train-tokenizer": Case(
            lambda out: ["train-tokenizer", "--out", str(out), *plugins, *options(_TOKENIZER)],
            functools.partial(_whole_run, product="tokenizer"),
            functools.partial(_run, product="tokenizer"),
        ),
    }


def _draw_photos(folder: Path) -> None:
    folder.mkdir(parents=True)
    photo = data.astronaut()[..., ::-1]
    for number in range(6):
        crop = photo[40 * number : 40 * number + 200, 60 : 60 + 150 + 50 * number]
        cv2.imwrite(str(folder / f"{number}.png"), crop.astype(np.uint16) * 257 if number % 2 else crop)


def _digests(folder: Path, pattern: str) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob(pattern) if path.is_file() and not _is_hidden(path, folder))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _pictures(out: Path) -> dict[str, str]:
    return _digests(out, "*.png")


def _whole_pictures(out: Path, undisturbed: Path) -> int:
    expected, found = _pictures(undisturbed), _pictures(out)
    for name, digest in found.items():
        assert expected[name] == digest, f"{name} is not whole"
    return len(found)


def _run(out: Path, product: str) -> dict[str, str]:
    """The exported model, the last checkpoint, and every loss on the way."""
    losses = [line for line in (out / "metrics.csv").read_text().splitlines() if "loss" in line or "total" in line]
    last = max((out / "checkpoints").glob("step-*"))
    return _digests(out / product, "*") | _digests(last, "*") | {"losses": "\n".join(losses)}


def _whole_run(out: Path, undisturbed: Path, product: str) -> int:
    from defusion_cli.training.checkpoint import list_checkpoints, load_checkpoint

    found = list_checkpoints(out / "checkpoints")
    for _, path in found:
        load_checkpoint(path)
    if (out / product).exists():
        assert _digests(out / product, "*") == _digests(undisturbed / product, "*"), f"{product} is not whole"
    if (out / "recipe.json").exists():
        json.loads((out / "recipe.json").read_text())
    return found[-1][0] if found else 0


def run(arguments: list[str], log: Path, kill_after_s: float | None = None) -> int | None:
    """Exit code of ``defusion ARGUMENTS`` in a fork; None if it was killed before its end."""
    child = os.fork()
    if child == 0:
        os.setsid()
        with open(log, "ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        code = 99
        try:
            from defusion_cli.app import app

            app(arguments, prog_name="defusion")
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        finally:
            os._exit(code)
    if kill_after_s is None:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    deadline = time.monotonic() + kill_after_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def torment(name: str, folder: Path, kills: int, seed: int) -> int:
    """Kill one command `kills` times; AssertionError if anything is lost. Returns how often it was left to finish."""
    case, rng = cases(folder)[name], np.random.default_rng(seed)
    log, undisturbed = folder / f"{name}.log", folder / f"{name}-undisturbed"
    start = time.monotonic()
    assert run(case.arguments(undisturbed), log) == 0, log.read_text()[-2000:]
    length = time.monotonic() - start
    expected, done, finished = case.result(undisturbed), 0, 0
    while done < kills:
        out, progress = folder / f"{name}-{done}", 0
        for _ in range(min(int(rng.integers(1, 4)), kills - done)):
            code = run(case.arguments(out), log, kill_after_s=float(rng.uniform(0, length)))
            assert code in (None, 0), log.read_text()[-2000:]
            done += code is None
            now = case.whole(out, undisturbed) if out.exists() else 0
            assert now >= progress, f"{name}: {progress} was reached, {now} is left"
            progress = now
        assert run(case.arguments(out), log) == 0, log.read_text()[-2000:]
        result = case.result(out)
        different = sorted(key for key in {*result, *expected} if result.get(key) != expected.get(key))
        assert not different, f"{name}: {', '.join(different)} in {out} differ from {undisturbed}"
        finished += 1
        shutil.rmtree(out)
    return finished


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("commands", nargs="*", default=["restore", "degrade", "train", "train-tokenizer"])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import defusion_cli.restore.model
    import defusion_cli.training.diffusion
    import defusion_cli.training.tokenizer  # noqa: F401

    with tempfile.TemporaryDirectory() as name:
        for command in options.commands:
            start = time.monotonic()
            finished = torment(command, Path(name), options.kills, options.seed)
            print(f"{command}: killed {options.kills} times, {finished} runs finished with the same bytes "
                  f"({time.monotonic() - start:.0f} s)", flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    main()

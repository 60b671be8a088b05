"""Atomic training checkpoints: tensors in safetensors, everything else in JSON; nothing is ever unpickled.

A checkpoint is one folder, ``step-00001000/``, written under a temporary name and renamed when complete, so that
a run killed at any moment leaves either the old checkpoint or the new one, never half of one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from defusion_cli.console import note
from defusion_cli.errors import DataError, UsageError, one_line
from defusion_cli.files import discard_folder, remove_leftovers, staged_folder, write_atomically

if TYPE_CHECKING:
    from defusion_cli.training.launch import Rank

_NAME = re.compile(r"step-(\d{8})")
_TENSOR = "__tensor__"


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], keep: int = 2) -> Path:
    """Write ``folder/step-XXXXXXXX`` and drop all but the `keep` newest checkpoints.

    Parameters
    ----------
    state
        Nested dicts and lists with string or int keys, of tensors and plain JSON values; optimiser state dicts fit.

    Returns
    -------
    Path
        The new checkpoint's folder.
    """
    final = _path(folder, step)
    tensors: dict[str, Tensor] = {}
    layout = _flatten(state, "", tensors)
    with staged_folder(final) as temporary:
        save_file(tensors, temporary / "tensors.safetensors")
        (temporary / "state.json").write_text(json.dumps({"version": 1, "step": step, "state": layout}))
    for _, old in list_checkpoints(folder)[:-keep]:
        discard_folder(old)
    remove_leftovers(folder)
    return final


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Complete checkpoints as (step, folder), oldest first."""
    if not folder.is_dir():
        return []
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match.group(1)), path) for match, path in found if match)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run, or None."""
    checkpoints = list_checkpoints(folder)
    return checkpoints[-1][1] if checkpoints else None


def load_checkpoint(path: Path) -> tuple[int, dict[str, Any]]:
    """Read ``(step, state)`` back.

    Raises
    ------
    DataError
        If the folder is no checkpoint or is damaged.
    """
    try:
        document = json.loads((path / "state.json").read_text())
        tensors = load_file(path / "tensors.safetensors")
        return int(document["step"]), _unflatten(document["state"], tensors)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _unreadable(path, str(error)) from error


def resume(folder: Path, rank: Rank, go_on: Callable[[int, dict[str, Any]], None]) -> bool:
    """Go on from the newest checkpoint that can be read, the same in all processes; False if there is none.

    Parameters
    ----------
    go_on
        Takes ``(step, state)``.

    Raises
    ------
    DataError
        In all processes, if there are checkpoints but none can be read, or one process does not see the folder.
    """
    step, problem = -1, None
    try:
        step = _go_on_from_newest(folder, go_on) if rank.is_main else -1
    except DataError as error:
        problem = error
    step = rank.told_by_main(step)
    if not rank.is_main and step >= 0:
        try:
            _go_on_from(_path(folder, step), go_on)
        except DataError as error:
            problem = error
    if rank.all_can(problem is None):
        return step >= 0
    raise problem or DataError(
        f"Another process cannot read the checkpoints in {folder}.", fix="--out a folder that all machines see"
    )


def _go_on_from_newest(folder: Path, go_on: Callable[[int, dict[str, Any]], None]) -> int:
    """The step that was gone on from, or -1."""
    checkpoints = list_checkpoints(folder)
    for number, (step, path) in enumerate(reversed(checkpoints), 1):
        try:
            _go_on_from(path, go_on)
            return step
        except DataError as error:
            if number == len(checkpoints):
                raise
            note(f"{path.name} cannot be read ({error.found}): going on from the checkpoint before it")
    return -1


def _go_on_from(path: Path, go_on: Callable[[int, dict[str, Any]], None]) -> None:
    step, state = load_checkpoint(path)
    try:
        go_on(step, state)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error


def _unreadable(path: Path, found: str) -> DataError:
    return DataError(
        f"The checkpoint {path} cannot be read.",
        found=one_line(found)[:200],
        fix="delete this folder; training goes on from the checkpoint before it",
    )


@contextmanager
def stops_explained(folder: Path) -> Iterator[None]:
    """Around a training that keeps its checkpoints in `folder`: an interrupt says where it can go on.

    Raises
    ------
    KeyboardInterrupt
        Of the kind that was raised, with a sentence.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        checkpoints = list_checkpoints(folder)
        if not checkpoints:
            raise type(stop)(f"There is no checkpoint in {folder} yet.") from None
        step, path = checkpoints[-1]
        raise type(stop)(f"The checkpoint of step {step} is kept: {path}.") from None


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(recipe, dict):
            return recipe
        found = "no table of settings"
    except (OSError, ValueError) as error:
        found = str(error)[:200]
    raise DataError(
        f"The settings that this run was started with cannot be read: {path}.",
        found=found,
        fix=f"delete {path}, if the settings are those of before",
    )


def _flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """JSON skeleton of `value`; tensors move into `tensors` under their path."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        # Keys of optimiser states are ints, which JSON would turn into strings: keep pairs.
        return {"__dict__": [[key, _flatten(item, f"{name}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_flatten(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]
    return value


def _unflatten(layout: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(layout, dict) and _TENSOR in layout:
        return tensors[layout[_TENSOR]]
    if isinstance(layout, dict):
        return {key: _unflatten(item, tensors) for key, item in layout["__dict__"]}
    if isinstance(layout, list):
        return [_unflatten(item, tensors) for item in layout]
    return layout


def rng_state() -> dict[str, Tensor]:
    """State of torch's global generators (CPU, and every visible GPU)."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state |= {f"cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return state


def remember_recipe(
    out: Path, recipe: Mapping[str, Any], may_change: Collection[str] = (), checkpoints: str = "checkpoints"
) -> None:
    """Keep the resolved recipe of a run in ``recipe.json``, and refuse to go on with another one; for rank zero.

    That a run goes on with other ``photographs`` (`defusion_cli.data.sources.describe_photographs`) is told.

    Parameters
    ----------
    out
        Run folder.
    recipe
        All settings, as plain values.
    may_change
        Those that may differ from what the run was started with.
    checkpoints
        Folder in `out` that holds a checkpoint once there is something to go on from.

    Raises
    ------
    UsageError
        If the run has a checkpoint and was started with other settings.
    """
    path, now = out / "recipe.json", json.loads(json.dumps(recipe))
    if path.exists() and list_checkpoints(out / checkpoints):
        before = _read_recipe(path)
        changed = sorted(key for key in now if before.get(key) != now[key] and key not in may_change)
        if changed:
            raise UsageError(
                f"The run in {out} was started with other settings.",
                found=", ".join(f"{key} {now[key]}" for key in changed)[:300],
                accepted=", ".join(f"{key} {before.get(key)}" for key in changed)[:300],
                fix="--out another folder, or the settings of before",
            )
        if "photographs" in before and before["photographs"] != now["photographs"]:
            seen = f"{before['photographs']}; now {now['photographs']}"
            note(f"the photographs are others than before ({seen}): what is drawn from here on differs, too")
    write_atomically(path, json.dumps(now, indent=2).encode())

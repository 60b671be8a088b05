"""From ``--model default|FOLDER|HUB_ID`` to a pipeline, without running or allocating anything a file asks for.

A model folder may come from a stranger. Classes are looked up in a table of our own and never imported by the name
that stands in the file; weights are safetensors only; and before a tensor is allocated, the configuration is checked
against the shapes in the header of the weights, on torch's "meta" device, which has no memory.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import re
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors import safe_open
from torch import nn
from torch.overrides import TorchFunctionMode

from defusion_cli.diffusion import DefusionPipeline, DegradationUNet
from defusion_cli.errors import DataError, UsageError, one_line
from defusion_cli.recognition import FEATURES, DegradationRecogniser
from defusion_cli.tokenizer import InstructionTokenizer

DEFAULT_MODEL = "default"
_EMBEDDED = Path(__file__).resolve().parent.parent / "weights" / "default"
_INDEX = "model_index.json"
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_FILES = ["model_index.json", "scheduler/scheduler_config.json"] + [
    f"{part}/{name}" for part in ("unet", "tokenizer") for name in ("config.json", _WEIGHTS)
]
_RECOGNISER_FILES = [f"recogniser/{name}" for name in ("config.json", _WEIGHTS)]
_PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth", "*.pkl")
_CLASSES: dict[str, dict[str, Any]] = {
    "unet": {"DegradationUNet": DegradationUNet, "UNet2DConditionModel": UNet2DConditionModel},
    "tokenizer": {"InstructionTokenizer": InstructionTokenizer},
    "scheduler": {"DDIMScheduler": DDIMScheduler},
}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_MAX_JSON_BYTES = 1_000_000
_MAX_INT = 100_000
"""No channel count, size or number of entries of a real model comes near this."""
_MAX_ITEMS = 64
"""Nor has one more levels, or more layers in a level."""


def load_pipeline(model: str = DEFAULT_MODEL, device: str | torch.device = "cpu") -> DefusionPipeline:
    """The model, in float32 and evaluation mode, on `device`.

    Parameters
    ----------
    model
        ``default`` for the embedded one, a folder in diffusers' layout, or a hub id such as ``owner/name``.

    Raises
    ------
    UsageError
        If `model` is none of these.
    DataError
        If files are missing, damaged, contradictory, of another kind of model, or cannot be downloaded.
    """
    folder = find_model(model)
    index = _read_json(folder / _INDEX)
    if index.get("_class_name") != DefusionPipeline.__name__:
        raise DataError(
            f"{folder / _INDEX} belongs to another kind of model.",
            found=str(index.get("_class_name"))[:80],
            accepted=DefusionPipeline.__name__,
        )
    scale = index.get("damage_scale", 3.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0.01 <= scale <= 100:
        raise DataError(
            f"damage_scale in {folder / _INDEX} is unusable.", found=repr(scale)[:80], accepted="0.01 … 100"
        )
    factors = {name: index.get(name, {}) for name in ("refinement", "faint_refinement")}
    for name, value in factors.items():
        if not isinstance(value, dict) or not all(map(_is_factor, value.values())):
            raise DataError(
                f"{name} in {folder / _INDEX} is unusable.",
                found=repr(value)[:80],
                accepted='names with numbers from 0 to 2, as in {"haze": 0.3}',
            )
    together = index.get("together", [])
    if not isinstance(together, list) or not all(map(_is_set_of_names, together)):
        raise DataError(
            f"together in {folder / _INDEX} is unusable.",
            found=repr(together)[:80],
            accepted='lists of two names or more, as in [["rain", "snow"]]',
        )
    parts = {name: _class(index, name, folder) for name in _CLASSES}
    pipeline = DefusionPipeline(
        unet=_load_module(parts["unet"], folder / "unet", _check_unet),
        tokenizer=_load_module(parts["tokenizer"], folder / "tokenizer", _check_tokenizer),
        scheduler=_load_scheduler(folder / "scheduler"),
        damage_scale=float(scale),
        together=together,
        **factors,
    )
    pipeline.unet.to(memory_format=torch.channels_last)
    if (folder / "recogniser" / "config.json").is_file():
        pipeline.find_recogniser = cache(partial(load_recogniser, str(folder), device))
    return pipeline.to(device)


def _is_factor(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 2


def _is_set_of_names(value: object) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(name, str) for name in value)


def find_model(model: str) -> Path:
    """The folder that `model` means; a hub id is downloaded unless it is in the cache."""
    if model == DEFAULT_MODEL:
        if not (_EMBEDDED / _INDEX).is_file():
            raise DataError(
                "The default model is missing from this installation.",
                found=f"no {_INDEX} in {_EMBEDDED}",
                fix="pip install --force-reinstall defusion, or name a folder with --model",
            )
        return _EMBEDDED
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not _HUB_ID.fullmatch(model):
        raise UsageError(
            f"--model {model} names no model.",
            found="a file" if folder.exists() else "no such folder",
            accepted="default, a folder with model_index.json, or a hub id such as owner/name",
        )
    return _download(model)


def load_recogniser(model: str = DEFAULT_MODEL, device: str | torch.device = "cpu") -> DegradationRecogniser:
    """The part of a model that recognises damage, in float32 and evaluation mode, on `device`.

    Raises
    ------
    UsageError
        If `model` is none, or has no such part.
    DataError
        If its files are missing, damaged or contradictory.
    """
    folder = find_model(model) / "recogniser"
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"The model {model} cannot recognise by itself what is wrong with a photograph.",
            found=f"no folder recogniser in {folder.parent}",
            fix="name the damage, as in --degradation rain (defusion degrade --list names all), or --degradation blind",
        )
    network: DegradationRecogniser = _load_module(DegradationRecogniser, folder, _check_recogniser)  # type: ignore[assignment]
    return network.to(device)


def fingerprint(model: str, *, recogniser: bool = False) -> str:
    """Sixteen digits that change with the configuration or the weights of a model, or only of its recogniser."""
    folder, digest = find_model(model), hashlib.sha256()
    for name in _RECOGNISER_FILES if recogniser else _FILES:
        try:
            with open(folder / name, "rb") as file:
                digest.update(
                    hashlib.file_digest(file, "sha256").digest() if hasattr(hashlib, "file_digest") else file.read()
                )
        except OSError as error:
            raise DataError(f"{folder / name} cannot be read: {error.strerror}.") from None
    return digest.hexdigest()[:16]


def choose_device(name: str) -> torch.device:
    """``auto`` (a CUDA GPU if there is one, else the CPU), or a device by torch's name for it.

    Of several processes that share a folder each has a GPU of its own (LOCAL_RANK).

    Raises
    ------
    UsageError
        If there is no such device.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    accepted = ["auto", "cpu"] + [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if name not in accepted and not (name == "cuda" and torch.cuda.is_available()):
        raise UsageError("There is no such --device here.", found=name, accepted=", ".join(accepted))
    return torch.device(name)


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=_FILES + _RECOGNISER_FILES))
    except Exception as error:  # no network, no such repository, no access, no disk: told in the library's own words
        if isinstance(error, OSError) and error.errno is not None and error.filename:
            raise
        raise DataError(
            f"The model {hub_id} cannot be downloaded ({type(error).__name__}).",
            found=one_line(str(error))[:200],
            accepted=f"the files {', '.join(_FILES)}",
            fix=f"fetch them from https://huggingface.co/{hub_id} into a folder, and run again with --model FOLDER",
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(
            f"The model in {path.parent} is incomplete.",
            found=f"no file {path.name}",
            accepted="a folder in diffusers' layout: " + ", ".join(_FILES),
        )
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not usable JSON.", found=str(error)[:120]) from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is not usable JSON.", found=type(content).__name__, accepted="an object")
    return content


def _class(index: Mapping[str, Any], part: str, folder: Path) -> Any:
    entry = index.get(part)
    name = entry[1] if isinstance(entry, list) and len(entry) == 2 else entry
    if not isinstance(name, str) or name not in _CLASSES[part]:
        raise DataError(
            f"{folder / _INDEX} names a {part} that is not known here.",
            found=repr(entry)[:120],
            accepted=" or ".join(_CLASSES[part]),
        )
    return _CLASSES[part][name]


def _settings(kind: Any, path: Path) -> dict[str, Any]:
    """The constructor arguments in a configuration file, of known names and believable size."""
    content = {key: value for key, value in _read_json(path).items() if not key.startswith("_")}
    unknown = sorted(set(content) - set(inspect.signature(kind.__init__).parameters))
    if unknown:
        raise DataError(f"{path} has keys that {kind.__name__} does not know.", found=", ".join(unknown)[:120])
    for key, value in content.items():
        if not _believable(value, key == "trained_betas"):
            raise DataError(f"{key} in {path} has a value that no model has.", found=repr(value)[:80])
    return content


def _believable(value: object, empty: bool = False) -> bool:
    if empty:
        return value is None
    if isinstance(value, (list, tuple)):
        return len(value) <= _MAX_ITEMS and all(_believable(item) for item in value)
    if isinstance(value, (int, float)):
        return math.isfinite(value) and abs(value) <= _MAX_INT
    return value is None or (isinstance(value, str) and len(value) <= 100)


def _load_module(kind: Any, folder: Path, check: Any) -> nn.Module:
    settings = _settings(kind, folder / "config.json")
    layers = [settings.get(key) for key in ("blocks", "experts", "layers_per_block", "transformer_layers_per_block")]
    if any(count > _MAX_ITEMS for value in layers for count in _numbers(value)):
        raise DataError(f"{folder / 'config.json'} asks for more layers than any model has.")
    weights = folder / _WEIGHTS
    if not weights.is_file():
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        raise DataError(
            f"{folder} has no safe weights.",
            found=f"{pickles[0]}, which could run code when opened" if pickles else "no weights",
            accepted=_WEIGHTS,
            fix="save the model again with save_pretrained(…, safe_serialization=True)" if pickles else None,
        )
    try:
        with torch.device("meta"), _NoDrawing():
            module = kind.from_config(settings)
        shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
        _check_header(weights, shapes)
        check(settings)
        if set(shapes) < {name for name, _ in (*module.named_parameters(), *module.named_buffers())}:
            module = kind.from_config(settings)  # with buffers that are made, not saved
        with safe_open(weights, "pt") as file:
            module.load_state_dict({name: file.get_tensor(name).clone() for name in shapes}, assign=True)
    except DataError:
        raise
    except Exception as error:  # constructors and the reader refuse nonsense in many ways
        reason = one_line(str(error))[:160]
        raise DataError(
            f"The model in {folder} cannot be loaded.", found=f"{type(error).__name__}: {reason}"
        ) from error
    return module.float().eval().requires_grad_(False)


class _NoDrawing(TorchFunctionMode):
    """Leaves out random initial values: on "meta" there are none, yet drawing them imports SymPy and more, 0.3 s."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function.__name__.endswith(("normal_", "uniform_")):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def _numbers(value: object) -> list[int]:
    if isinstance(value, (list, tuple)):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int) else []


def _check_header(weights: Path, shapes: Mapping[str, torch.Size]) -> None:
    with safe_open(weights, "pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    wrong = [name for name in sorted(set(found) | set(shapes)) if found.get(name) != _tuple(shapes.get(name))]
    if wrong:
        name = wrong[0]
        raise DataError(
            f"{weights} does not fit its config.json: {len(wrong)} of {len(shapes)} tensors differ.",
            found=f"{name} {found.get(name, 'missing')}",
            accepted=f"{name} {_tuple(shapes.get(name)) or 'not at all'}",
        )


def _tuple(shape: torch.Size | None) -> tuple[int, ...] | None:
    return None if shape is None else tuple(shape)


def _check_unet(settings: Mapping[str, Any]) -> None:
    if (settings.get("in_channels"), settings.get("out_channels")) != (6, 3):
        raise ValueError("a restoring U-Net has in_channels 6 and out_channels 3")


def _check_tokenizer(settings: Mapping[str, Any]) -> None:
    if not 0 < float(settings.get("companding", 0.5)) <= 1:
        raise ValueError("companding must be in (0, 1]")


def _check_recogniser(settings: Mapping[str, Any]) -> None:
    ids = settings.get("ids")
    if not ids or not all(isinstance(name, str) for name in ids) or len(set(ids)) < len(ids):
        raise ValueError("ids must be different names of degradations")
    if settings.get("features") != FEATURES:
        raise ValueError(f"features must be {FEATURES}")
    threshold, companion = float(settings.get("threshold", 0.4)), float(settings.get("companion", 0.25))
    if not 0 < companion <= threshold < 1:
        raise ValueError("threshold and companion must be in (0, 1), companion not above threshold")


def _load_scheduler(folder: Path) -> DDIMScheduler:
    path = folder / "scheduler_config.json"
    settings = _settings(DDIMScheduler, path)
    wanted = {"prediction_type": "sample", "timestep_spacing": "trailing"}
    for key, value in wanted.items():
        if settings.get(key) != value:
            raise DataError(f"{key} in {path} is not ours.", found=repr(settings.get(key))[:80], accepted=value)
    try:
        if not 1 <= settings.get("num_train_timesteps", 1000) <= 10_000:
            raise ValueError("num_train_timesteps must be 1 … 10000")
        return DDIMScheduler(**settings)
    except Exception as error:
        raise DataError(f"{path} cannot be used.", found=one_line(str(error))[:160]) from error

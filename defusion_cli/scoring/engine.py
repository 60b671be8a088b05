"""pyiqa's metrics: found by name, made without a word on stdout, and with their weights or a sentence about them."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defusion_cli.errors import UsageError
from defusion_cli.scoring.missing import (
    DOWNLOADING,
    hidden_import_error,
    is_about_files,
    missing_weights,
    not_installed,
)

LPIPS_ALEX = Path(__file__).parent / "weights" / "lpips-alex.safetensors"
"""AlexNet's convolutions and the linear heads of LPIPS 0.1, so that LPIPS needs no network."""

_SHIPPED = ("lpips", "lpips+")
_PATIENCE_S = 20.0


def known_metrics() -> Mapping[str, Mapping[str, Any]]:
    """pyiqa's metrics with their settings.

    Raises
    ------
    UsageError
        If pyiqa or something that it imports is not installed.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from pyiqa.default_model_configs import DEFAULT_CONFIGS
    except ImportError as error:
        raise not_installed(error) from None
    return DEFAULT_CONFIGS


def make_metric(name: str, device: str) -> Any:
    """pyiqa's metric `name` on a torch `device`, weights loaded.

    Raises
    ------
    DefusionError
        If its weights are neither here nor to be downloaded.
    UsageError
        If something that it imports is not installed.
    """
    heard = _Listener()
    try:
        with _quiet(heard), _patience():
            import pyiqa

            if name in _SHIPPED:
                return _lpips_from_file(name, device)
            return pyiqa.create_metric(name, device=_torch_device(device))
    except ImportError as error:
        raise not_installed(error, name) from None
    except Exception as error:
        hidden = hidden_import_error(error)
        if hidden is not None:
            raise not_installed(hidden, name) from None
        if not is_about_files(error):
            raise
        raise missing_weights(name, heard.text, error) from None


def run_metric(metric: Any, pictures: Sequence[NDArray[Any]], references: Sequence[NDArray[Any]] | None) -> list[float]:
    """Scores of H×W×3 pictures of one size; values in [0, 1]."""
    import torch

    with _quiet(_Listener()), torch.inference_mode():
        batch = [_batch(pictures)] + ([_batch(references)] if references is not None else [])
        scores = metric(*batch)
    if isinstance(scores, (tuple, list)):
        scores = scores[0]
    return [float(score) for score in torch.as_tensor(scores).float().reshape(len(pictures), -1).mean(dim=1)]


def pick_device(name: str | None) -> str:
    """The torch device to score on: the named one, or a GPU if there is one.

    Raises
    ------
    UsageError
        If it does not exist.
    """
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu" or (name.split(":")[0] == "cuda" and torch.cuda.is_available()):
        with contextlib.suppress(RuntimeError):
            torch.empty(0, device=name)
            return name
    found = f"{torch.cuda.device_count()} CUDA devices" if torch.cuda.is_available() else "no CUDA device"
    raise UsageError(f"The device {name} cannot be used.", found=found, accepted="cpu, cuda or cuda:N")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what pyiqa prints."""
    with _quiet(_Listener()):
        yield


@contextlib.contextmanager
def old_sqrtm() -> Iterator[None]:
    """SciPy's matrix root with the argument ``disp``, which pyiqa passes and SciPy 1.18 no longer takes."""
    import scipy.linalg

    root = scipy.linalg.sqrtm
    if "disp" in inspect.signature(root).parameters:
        yield
        return

    def sqrtm(matrix: Any, disp: bool = True) -> Any:
        found = root(matrix)
        return found if disp else (found, 0.0)

    scipy.linalg.sqrtm = sqrtm
    try:
        yield
    finally:
        scipy.linalg.sqrtm = root


def _batch(images: Sequence[NDArray[Any]]) -> Any:
    import torch

    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)  # N×C×H×W


def _torch_device(name: str) -> Any:
    import torch

    return torch.device(name)


def _lpips_from_file(name: str, device: str) -> Any:
    """LPIPS with the weights of `LPIPS_ALEX`.

    pyiqa's AlexNet asks torchvision for the ImageNet weights whatever its argument ``pnet_rand`` says; for the time of
    the construction it gets an AlexNet without any.
    """
    import pyiqa
    import torch
    import torchvision
    from pyiqa.archs import lpips_arch
    from safetensors.torch import load_file

    def blank(weights: object = None) -> Any:
        with torch.device("meta"):
            features = torchvision.models.alexnet(weights=None).features
        return SimpleNamespace(features=features.to_empty(device="cpu"))

    original = lpips_arch.models
    lpips_arch.models = SimpleNamespace(alexnet=blank)
    try:
        metric = pyiqa.create_metric(name, device=torch.device("cpu"), pretrained=False, pnet_rand=True)
    finally:
        lpips_arch.models = original
    metric.net.load_state_dict(_pyiqa_names(load_file(LPIPS_ALEX), metric.net.state_dict()))
    metric.device = _torch_device(device)
    return metric.to(device)


def _pyiqa_names(weights: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Torchvision's names as pyiqa's: ``net.slice2.3.weight``, ``lin0.model.1.weight``, ``lins.0.model.1.weight``."""
    found = {}
    for name, present in wanted.items():
        layer, kind = re.search(r"(\d+)\.(weight|bias)$", name), name.rpartition(".")[2]
        if name.startswith("net.slice") and layer:
            found[name] = weights[f"features.{layer[1]}.{kind}"]
        elif head := re.match(r"lins?\.?(\d)\.", name):
            found[name] = weights[f"lin{head[1]}.weight"]
        else:
            found[name] = present  # the fixed shift and scale of the input
    return found


class _Listener(io.TextIOBase):
    """Remembers what is printed; shows it, on stderr, from the first sign of a download on."""

    def __init__(self) -> None:
        self.text = ""
        self._screen = sys.__stderr__

    def write(self, text: str) -> int:
        self.text += text
        if self._screen is not None and self._screen.isatty() and DOWNLOADING.search(self.text):
            self._screen.write(text)
        return len(text)


@contextlib.contextmanager
def _quiet(listener: _Listener) -> Iterator[None]:
    import logging
    import warnings

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(listener), contextlib.redirect_stderr(listener), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Where a firewall swallows packets, a download would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

"""What to say where something that a metric needs is missing: a package, or a file of weights."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from pathlib import Path

from defusion_cli.errors import DefusionError, UsageError

_PACKAGES = {
    # Both pull in a second OpenCV or old releases of what is installed; neither is needed for their metrics.
    "clip": "--no-deps openai-clip",
    "facexlib": "--no-deps facexlib",
    "pkg_resources": "'setuptools<81'",
}
"""What to install for a module of another name."""
DOWNLOADING = re.compile(r'Downloading: "(.+?)" to (\S.*?)\s*$', re.MULTILINE)
"""What torch prints before it downloads: address and file."""


def is_about_files(error: Exception) -> bool:
    """True for what goes wrong between a metric and its weights: downloads, missing and damaged files."""
    origin = type(error).__module__.split(".")[0]
    damaged = isinstance(error, (EOFError, ValueError, RuntimeError)) or origin in ("_pickle", "pickle", "zipfile")
    return isinstance(error, OSError) or origin in ("requests", "urllib3", "huggingface_hub", "httpx") or damaged


def _hub_repository(error: BaseException | None) -> str | None:
    """The repository whose file was asked for when the network failed."""
    while error is not None:
        url = str(getattr(getattr(error, "_request", None) or getattr(error, "request", None), "url", ""))
        if found := re.match(r"https?://[^/]+/([^/]+/[^/]+)/resolve/", url):
            return found[1]
        error = error.__cause__ or error.__context__
    return None


def missing_weights(name: str, heard: str, error: Exception) -> DefusionError:
    """Which file metric `name` lacks, from where it comes and into which folder it goes, from what was printed."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    downloads = DOWNLOADING.findall(heard)
    repository = _hub_repository(error)
    if not downloads and repository:
        from huggingface_hub.constants import HF_HUB_CACHE

        folder = f"models--{repository.replace('/', '--')}"
        return DefusionError(
            f"The metric {name} needs the files of huggingface.co/{repository}, which are not in {HF_HUB_CACHE} and "
            "cannot be downloaded.",
            found=reason,
            fix=f"on a computer with network, hf download {repository}; then copy {folder} into {HF_HUB_CACHE}",
        )
    if not downloads:
        return DefusionError(
            f"The metric {name} cannot load its weights ({reason}).",
            fix="connect to the network and run again, or score with metrics that need none: psnr, ssim, lpips",
        )
    url, target = downloads[-1]
    path = Path(target)
    return DefusionError(
        f"The metric {name} needs the file {path.name}, which is not in {path.parent} and cannot be downloaded.",
        found=reason,
        fix=f"on a computer with network, download {url} and put it into {path.parent}",
    )


def hidden_import_error(error: Exception) -> ImportError | None:
    """What pyiqa swallows when a module with several networks cannot be imported, and reports as an unknown network."""
    network = re.search(r"No object named '(\w+)' found in 'arch' registry", str(error))
    if not network:
        return None
    import pyiqa.archs

    for module in Path(pyiqa.archs.__path__[0]).glob("*_arch.py"):
        if re.search(rf"^class {network[1]}\b", module.read_text(encoding="utf-8"), re.MULTILINE):
            try:
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    importlib.import_module(f"pyiqa.archs.{module.stem}")
            except ImportError as cause:
                return cause
    return None


def not_installed(error: ImportError, metric: str | None = None) -> UsageError:
    """Which package is missing, and how to install it."""
    missing = (error.name or str(error)).split(".")[0]
    if missing == "pyiqa":
        return UsageError(
            "This metric needs pyiqa, which is not installed (without it: psnr, ssim, mae).",
            fix="pip install 'defusion[score]' && pip install --no-deps 'pyiqa>=0.1.16,<0.2'",
        )
    return UsageError(
        f"The metric {metric or ''} needs the package {missing}, which is not installed.".replace("  ", " "),
        fix=f"pip install {_PACKAGES.get(missing, missing)}",
    )

"""What of an installation works: one finding after another, none of which stops the next."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from defusion_cli import __version__
from defusion_cli.errors import DefusionError, one_line

_LEAST_FREE = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what
        Its name.
    state
        ``ok``; ``note``: works, but a reader may want to know; ``wrong``: something defusion needs does not work.
    found
        What is there.
    fix
        What to do, if there is something.
    """

    what: str
    state: Literal["ok", "note", "wrong"]
    found: str
    fix: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """Plain values."""
        return asdict(self)


def examine() -> Iterator[Finding]:
    """All findings; a check that itself fails becomes one."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "defusion": _defusion,
        "terminal": _terminal,
        "torch": _torch,
        "plugins": _plugins,
        "default model": _model,
        "metrics": _metrics,
        "caches": _caches,
    }
    for name, check in checks.items():
        try:
            yield from check()
        except Exception as error:  # the patient may be ill in any way
            reason = error.failed if isinstance(error, DefusionError) else f"{type(error).__name__}: {error}"
            fix = error.fix if isinstance(error, DefusionError) else None
            again = "pip install --force-reinstall defusion"
            yield Finding(name, "wrong", one_line(reason)[:300], fix or again)


def _defusion() -> Iterator[Finding]:
    yield Finding("defusion", "ok", f"{__version__}, in {Path(__file__).parent}")
    yield Finding("Python", "ok", f"{platform.python_version()} on {platform.platform()}")
    twins = [name for name in ("opencv-python", "opencv-contrib-python") if _version(name)]
    if twins and _version("opencv-python-headless"):
        found = f"{' and '.join(twins)} beside opencv-python-headless: the two overwrite one another's files"
        fix = f"pip uninstall {' '.join(twins)} && pip install --force-reinstall --no-deps opencv-python-headless"
        yield Finding("OpenCV", "note", found, fix)


def _terminal() -> Iterator[Finding]:
    encoding = sys.stdout.encoding or "unknown"
    if encoding.lower().replace("-", "") == "utf8":
        yield Finding("terminal", "ok", encoding)
    else:
        found = f"{encoding}: characters that it lacks are shown as question marks"
        yield Finding("terminal", "note", found, "set PYTHONUTF8=1")


def _torch() -> Iterator[Finding]:
    import torch

    from defusion_cli.diffusion.pipeline import use_bfloat16

    yield Finding("PyTorch", "ok", f"{torch.__version__}, torchvision {_version('torchvision')}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    if threads > cores:
        found, fix = f"{threads} threads on {cores} cores: they wait for one another", f"export OMP_NUM_THREADS={cores}"
        yield Finding("threads", "note", found, fix)
    else:
        yield Finding("threads", "ok", f"{threads} on {cores} cores")
    fast = use_bfloat16("cpu")
    yield Finding(
        "CPU", "ok", f"{torch.backends.cpu.get_cpu_capability()}, bfloat16 {'is used' if fast else 'is slow'}"
    )
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        half = "bfloat16" if use_bfloat16("cuda") else "float32"
        found = f"{torch.cuda.get_device_name(number)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, {half}"
        yield Finding(f"cuda:{number}", "ok", found)
    if not torch.cuda.is_available():
        yield Finding("GPU", "note", "none that PyTorch can use; everything runs on the CPU")


def _plugins() -> Iterator[Finding]:
    from defusion_cli.plugins import installed_plugins

    registry = installed_plugins()
    strangers = sorted(i for i in registry if registry.source(i).distribution != "defusion")
    third = f"; from others: {', '.join(strangers)}" if strangers else ""
    yield Finding("plugins", "ok" if registry else "wrong", f"{len(registry)}: {', '.join(sorted(registry))}{third}")
    for broken in registry.broken:
        yield Finding(f"plugin {broken.name}", "wrong", f"{broken.source}: {broken.reason}", broken.fix)


def _model() -> Iterator[Finding]:
    import numpy as np

    from defusion_cli.plugins import installed_plugins
    from defusion_cli.restore.instruction import Instructor
    from defusion_cli.restore.model import find_model, fingerprint, load_pipeline
    from defusion_cli.restore.pixels import restore_pixels

    pipeline = load_pipeline()
    instructor = Instructor(pipeline, installed_plugins())
    picture = np.random.default_rng(0).random((256, 256, 3)).astype(np.float32)
    ((tokens, _),) = instructor.blind()
    restore_pixels(pipeline, picture, tokens)  # the first run is slower
    start = time.perf_counter()
    restored = restore_pixels(pipeline, picture, tokens)
    seconds = (time.perf_counter() - start) * 1e6 / (256 * 256)
    parameters = sum(parameter.numel() for parameter in pipeline.unet.parameters()) / 1e6
    found = f"{find_model('default')} ({fingerprint('default')}): {parameters:.1f} M parameters"
    if not np.isfinite(restored).all():
        yield Finding("default model", "wrong", f"{found}, gives numbers that are none", "defusion --debug doctor")
        return
    yield Finding("default model", "ok", f"{found}, {seconds:.1f} s for a megapixel on the CPU now")


def _metrics() -> Iterator[Finding]:
    yield Finding("metrics", "ok", "psnr, ssim and mae need nothing else")
    if importlib.util.find_spec("pyiqa") is None:
        fix = "pip install 'defusion[score]' && pip install --no-deps 'pyiqa>=0.1.16,<0.2'"
        yield Finding("pyiqa", "note", "not installed: no lpips, fid, niqe …", fix)
        return
    from defusion_cli.scoring.engine import known_metrics, make_metric

    count = len(known_metrics())
    yield Finding("pyiqa", "ok", f"{_version('pyiqa')}, {count} metrics; most load weights from the network once")
    make_metric("lpips", "cpu")
    yield Finding("lpips", "ok", "works without network")


def _caches() -> Iterator[Finding]:
    # The variables as huggingface-hub and torch.hub read them.
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface") / "hub"
    hub = Path(os.environ.get("HF_HUB_CACHE") or hub)
    torch_hub = Path(os.environ.get("TORCH_HOME") or Path.home() / ".cache/torch") / "hub"
    models = sorted(path.name[8:].replace("--", "/") for path in hub.glob("models--*")) if hub.is_dir() else []
    yield Finding("hub cache", "ok", f"{hub}: {', '.join(models) or 'no models'}")
    yield Finding("metric cache", "ok", f"{torch_hub}{'' if torch_hub.is_dir() else ' (not there yet)'}")
    temporary = Path(tempfile.gettempdir())
    free = shutil.disk_usage(temporary).free
    fix = "export TMPDIR=/a/disk/with/room" if free < _LEAST_FREE else None
    yield Finding("temporary files", "note" if fix else "ok", f"{temporary}: {free / 2**30:.1f} GiB free", fix)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None

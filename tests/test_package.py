"""The distribution as a stranger meets it: metadata, dependencies, what an import costs."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import defusion_cli

ROOT = Path(__file__).parents[1]
PACKAGES = ("defusion_cli", "degradations")
# Import names whose distribution is called otherwise.
DISTRIBUTIONS = {"cv2": "opencv-python-headless", "skimage": "scikit-image", "PIL": "pillow"}
# Guarded: without them the rest works.
OPTIONAL = {"onnxruntime", "pyiqa", "scipy", "pillow_heif"}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements(distribution: str, extras: tuple[str, ...] = ()) -> list[Requirement]:
    """The requirements that apply here, with the given extras."""
    found = []
    for line in importlib.metadata.requires(distribution) or []:
        requirement = Requirement(line)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in ("", *extras)):
            found.append(requirement)
    return found


def _closure(extras: tuple[str, ...]) -> set[str]:
    """Names of all that `pip install defusion[extras]` brings along."""
    names: set[str] = set()
    todo = [("defusion", extras)]
    while todo:
        name, wanted = todo.pop()
        for requirement in _requirements(name, wanted):
            key = _canonical(requirement.name)
            if key not in names or (key == "defusion" and requirement.extras):
                names.add(key)
                todo.append((key, tuple(requirement.extras)))
    return names


def _imported_distributions() -> set[str]:
    """Distributions that the product's source imports, anywhere in a file."""
    modules = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    modules.add(node.module.split(".")[0])
    modules -= set(sys.stdlib_module_names) | set(PACKAGES) | OPTIONAL
    return {DISTRIBUTIONS.get(name, _canonical(name)) for name in modules}


def test_metadata_names_version_licence_and_console_script() -> None:
    metadata = importlib.metadata.metadata("defusion")
    assert metadata["Version"] == defusion_cli.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="defusion")
    assert script.value == "defusion_cli.__main__:main"


def test_every_import_is_a_declared_dependency() -> None:
    declared = {_canonical(requirement.name) for requirement in _requirements("defusion")}
    # tomli is imported under Python 3.10 only, where its marker holds.
    assert _imported_distributions() - declared - {"tomli"} == set()


@pytest.mark.parametrize("extras", [(), ("score",), ("dev",)])
def test_only_the_headless_opencv_comes_along(extras: tuple[str, ...]) -> None:
    names = _closure(extras)
    assert "opencv-python-headless" in names
    assert not names & {"opencv-python", "opencv-contrib-python"}


def test_every_built_in_degradation_has_an_entry_point() -> None:
    files = {p.stem.replace("_", "-") for p in (ROOT / "degradations").glob("[!_]*.py")}
    entries = importlib.metadata.entry_points(group="defusion.degradations")
    ours = {entry.name for entry in entries if entry.dist is not None and entry.dist.name == "defusion"}
    assert ours == files


@pytest.mark.parametrize(
    "arguments", [["--help"], ["degrade", "--list"], ["make-ground", "--help"], ["restore", "--help"]]
)
def test_light_commands_leave_torch_alone(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom defusion_cli.__main__ import main\n"
        f"sys.argv = ['defusion', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'torchvision', 'diffusers', 'pyiqa'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "tests")
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_the_files_of_the_packages_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "defusion_cli/py.typed" in expected
    assert {name for name in packed if ".dist-info/" not in name} == expected

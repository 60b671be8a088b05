"""The generated pages in docs/ say what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_generated_pages_are_current(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "docs/make_docs.py"), str(tmp_path)], check=True, capture_output=True)
    for page in tmp_path.iterdir():
        assert page.read_text(encoding="utf-8") == (ROOT / "docs" / page.name).read_text(encoding="utf-8"), "make docs"


def test_every_degradation_is_documented() -> None:
    page = (ROOT / "docs/degradations.md").read_text(encoding="utf-8")
    for path in (ROOT / "degradations").glob("[!_]*.py"):
        assert f"\n## {path.stem.replace('_', '-')}\n" in page


def test_the_architecture_page_names_every_package_and_no_other() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    folder = ROOT / "defusion_cli"
    there = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert named - {"weights"} == there - {"__init__"}


def test_the_architecture_page_knows_the_contracts_of_the_linter() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = {name: line for line in page.splitlines() for name in re.findall(r"^\| .*?`([a-z_]+)`", line)}
    contracts = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[[tool.importlinter.contracts]]")
    (torch,) = [text for text in contracts if '"torch", "torchvision", "diffusers"' in text]
    without_torch = set(re.findall(r"defusion_cli\.(\w+)\"", torch)) - {"config", "console"}
    assert without_torch == {name for name, line in rows.items() if "import torch" in line}

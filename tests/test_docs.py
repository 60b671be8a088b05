"""The generated pages in docs/ say what the code says."""

from __future__ import annotations

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

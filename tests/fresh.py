"""Fresh environments without a download: what is installed here is lent to them."""

from __future__ import annotations

import os
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]


def fresh_environment(folder: Path) -> Path:
    """Make a virtual environment that sees this working tree and all that is installed here; its interpreter."""
    venv.create(folder, with_pip=False)
    (own,) = folder.rglob("site-packages")
    lent = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    lines = "".join(f"import site; site.addsitedir({path!r})\n" for path in [str(ROOT), *lent])
    (own / "lent.pth").write_text(lines)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"

"""``python -m defusion_cli`` is ``defusion``."""

from __future__ import annotations

import sys

from defusion_cli.app import app
from defusion_cli.interrupt import leaving_in_order


def main() -> None:
    """Run the command line; every way out is an exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets a question mark, not a traceback.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    with leaving_in_order():
        app(prog_name="defusion")


if __name__ == "__main__":
    main()

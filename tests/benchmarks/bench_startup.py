"""How long help takes beside a bare Typer program with Rich, both started by the same interpreter.

    python tests/benchmarks/bench_startup.py --markdown docs/speed.md

Processor time of the whole process, least of several starts that take turns: the least is what the program needs, the
rest is what else the machine did.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from subprocess import DEVNULL, Popen

from outputs import add_outputs, leave

LIMIT = 1.5
"""Help may take this many times as long as that of the bare program."""
BARE = '''
from typing import Annotated
import typer

app = typer.Typer(rich_markup_mode="rich")

@app.command()
def one(count: Annotated[int, typer.Option(help="How many.")] = 1) -> None:
    """A command."""

@app.command()
def two(name: Annotated[str, typer.Option(help="Whose.")] = "nobody's") -> None:
    """Another."""

app()
'''
PROGRAMS = {
    "bare --help": ("--help",),
    "bare one --help": ("one", "--help"),
    "defusion --help": ("-m", "defusion_cli", "--help"),
    "defusion degrade --help": ("-m", "defusion_cli", "degrade", "--help"),
}
PAIRS = {"defusion --help": "bare --help", "defusion degrade --help": "bare one --help"}


def processor_seconds(arguments: list[str]) -> float:
    """Processor time of one start of this interpreter."""
    process = Popen([sys.executable, *arguments], stdout=DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def measure(turns: int) -> dict[str, float]:
    """Least processor seconds of every program; the first, unmeasured turn writes byte code."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE)
        least = dict.fromkeys(PROGRAMS, float("inf"))
        for turn in range(turns + 1):
            for name, arguments in PROGRAMS.items():
                seconds = processor_seconds([*([str(bare)] if name.startswith("bare") else []), *arguments])
                least[name] = min(least[name], seconds) if turn else least[name]
    return least


def ratios(seconds: dict[str, float]) -> dict[str, float]:
    """Ours over the bare program's."""
    return {ours: seconds[ours] / seconds[theirs] for ours, theirs in PAIRS.items()}


def table(seconds: dict[str, float]) -> str:
    """Markdown."""
    lines = ["| | processor time | a bare Typer program | ratio, at most 1.5 |", "|---|---|---|---|"]
    for ours, ratio in ratios(seconds).items():
        lines.append(f"| `{ours}` | {seconds[ours]:.2f} s | {seconds[PAIRS[ours]]:.2f} s | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; exit with 1 if a ratio is over the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=10, help="starts of every program, default 10")
    add_outputs(parser)
    arguments = parser.parse_args()
    seconds = measure(arguments.turns)
    leave(arguments, "Start-up", table(seconds), {"processor_seconds": seconds, "ratios": ratios(seconds)})
    return int(max(ratios(seconds).values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())

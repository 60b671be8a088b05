"""The supplement's ablation: the default recipe with visual, simple and blank grounds, the same number of steps each.

    python tests/benchmarks/bench_grounds.py DATA VAL --out FOLDER [--steps 6200] [--kinds visual simple blank]

Trains with ``defusion train --set ground_kind=KIND`` (an interrupted run goes on) and prints the gain in RGB PSNR, dB,
on squares of the validation photographs, each instructed on a ground of the kind it was trained with. Tokenizer, seed,
data and their order are the same for all; only what the instructions are shown on differs.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path


def train(kind: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Train to the end; gain by degradation at the last step."""
    out = arguments.out / kind
    settings = [f"ground_kind={kind}", f"steps={arguments.steps}", f"validate_every={arguments.steps}", *arguments.set]
    command = [
        sys.executable,
        "-m",
        "defusion_cli",
        "train",
        "--data",
        str(arguments.data),
        "--val",
        str(arguments.val),
    ]
    command += ["--tokenizer", arguments.tokenizer, "--out", str(out)]
    for setting in settings:
        command += ["--set", setting]
    subprocess.run(command, check=True, stdout=sys.stderr)
    with (out / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) == 3 and row[1].startswith("gain/")]
    return {name.removeprefix("gain/"): float(value) for step, name, value in rows if int(step) == arguments.steps}


def main() -> None:
    """Train one model a kind, one after another, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("val", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6200)
    parser.add_argument("--kinds", nargs="+", default=["visual", "simple", "blank"])
    parser.add_argument("--tokenizer", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for defusion train")
    arguments = parser.parse_args()
    gains = {kind: train(kind, arguments) for kind in arguments.kinds}
    print(f"{arguments.steps} steps, gain in dB\n")
    print(f"| degradation | {' | '.join(gains)} |\n|---|{'---|' * len(gains)}")
    for name in next(iter(gains.values())):
        print(f"| {name} | {' | '.join(f'{gain[name]:+.2f}' for gain in gains.values())} |")
    means = [sum(gain.values()) / len(gain) for gain in gains.values()]
    print(f"| mean | {' | '.join(f'{mean:+.2f}' for mean in means)} |")


if __name__ == "__main__":
    main()

"""How long one photograph takes in each degradation plugin: 512×512, one thread, drawing the parameters included.

make bench                                          # table
python tests/benchmarks/bench_plugins.py --json out.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

from defusion_cli.plugins import Degradation, Scene, installed_plugins, pseudo_depth

# Milliseconds for one 512×512 photograph; training draws millions of them.
LIMIT_MS = {"noise": 8.0, "jpeg": 8.0}
DEFAULT_LIMIT_MS = 25.0


def time_plugin(plugin: Degradation[Any], image: NDArray[np.float32], repeats: int) -> list[float]:
    """Milliseconds of `repeats` draws, each with parameters of its own; the first, unmeasured one fills caches."""
    times = []
    for seed in range(repeats + 1):
        rng = np.random.default_rng(seed)
        start = time.perf_counter()
        params = plugin.sample(rng)
        # A depth estimate is what the host adds for plugins that look at it: it belongs to the price.
        scene = Scene(pseudo_depth(image, rng)) if plugin.uses_depth else Scene()
        plugin.apply(image, params, rng, scene)
        times.append(1000 * (time.perf_counter() - start))
    return times[1:]


def measure(repeats: int) -> list[dict[str, Any]]:
    """One row a plugin: id, median, 90th percentile and limit, in milliseconds."""
    cv2.setNumThreads(1)
    image = data.astronaut().astype(np.float32) / 255
    rows = []
    for plugin_id, plugin in sorted(installed_plugins().items()):
        times = time_plugin(plugin, image, repeats)
        rows.append(
            {
                "plugin": plugin_id,
                "median_ms": round(statistics.median(times), 2),
                "p90_ms": round(statistics.quantiles(times, n=10)[-1], 2),
                "limit_ms": LIMIT_MS.get(plugin_id, DEFAULT_LIMIT_MS),
            }
        )
    return rows


def main() -> int:
    """Print the table; exit with 1 if a median is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=60, help="draws a plugin, default 60")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    rows = measure(arguments.repeats)
    print(f"{'plugin':<16}{'median ms':>10}{'p90 ms':>10}{'limit ms':>10}")
    for row in rows:
        slow = "  over" if row["median_ms"] > row["limit_ms"] else ""
        print(f"{row['plugin']:<16}{row['median_ms']:>10.2f}{row['p90_ms']:>10.2f}{row['limit_ms']:>10.0f}{slow}")
    for broken in installed_plugins().broken:
        print(f"{broken.name}: not usable, {broken.reason}", file=sys.stderr)
    if arguments.json:
        machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
        arguments.json.write_text(json.dumps({"version": 1, "machine": machine, "plugins": rows}, indent=2) + "\n")
    return int(any(row["median_ms"] > row["limit_ms"] for row in rows) or bool(installed_plugins().broken))


if __name__ == "__main__":
    sys.exit(main())

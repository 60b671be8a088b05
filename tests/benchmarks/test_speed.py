"""The plugins are fast enough to make training data, with room for a busy machine; `make bench` gives the figures."""

from __future__ import annotations

import statistics

import cv2
import numpy as np
import pytest
from bench_plugins import DEFAULT_LIMIT_MS, LIMIT_MS, time_plugin
from skimage import data

from defusion_cli.plugins import installed_plugins

SLACK = 5


@pytest.mark.parametrize("plugin_id", sorted(installed_plugins()))
def test_a_photo_takes_milliseconds(plugin_id: str) -> None:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        image = data.astronaut().astype(np.float32) / 255
        times = time_plugin(installed_plugins()[plugin_id], image, repeats=9)
    finally:
        cv2.setNumThreads(threads)
    assert statistics.median(times) < SLACK * LIMIT_MS.get(plugin_id, DEFAULT_LIMIT_MS)

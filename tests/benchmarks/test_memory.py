"""What the benchmark of memory calls growth; `make bench` gives the figures."""

from __future__ import annotations

import pytest
from bench_memory import grows


@pytest.mark.parametrize(
    ("peaks", "expected"),
    [
        ([(24, 887), (24, 888), (1024, 1210), (4096, 1363)], False),
        ([(24, 887), (24, 990)], True),  # the number of pictures
        ([(24, 887), (1024, 1000), (4096, 1260)], True),  # their size
        ([(24, 887)], False),
    ],
)
def test_memory_grows_with_number_or_size(peaks, expected):
    assert grows([{"side_px": side, "peak_mb": peak} for side, peak in peaks]) is expected

"""The plugins are fast enough to make training data, with room for a busy machine; `make bench` gives the figures."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import pytest
from bench_synthesis import ROWS, SLOWEST, Row, measure, table

from defusion_cli.plugins import installed_plugins

SLACK = 5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = cv2.getNumThreads()
    yield
    cv2.setNumThreads(threads)


def test_every_plugin_has_a_row() -> None:
    plugins = installed_plugins()
    assert {row.plugin for row in ROWS} == {i for i in plugins if plugins.source(i).distribution == "defusion"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_photo_takes_milliseconds(row: Row) -> None:
    alone = Row(row.name, row.plugin, row.kind)
    (result,) = measure((alone,), 9, {})
    assert result["pictures_per_second"]["defusion"] > SLOWEST / SLACK
    assert f"| {row.name} | " in table([result])


def test_a_missing_peer_is_named_and_left_out() -> None:
    missing: dict[str, str] = {}
    (result,) = measure((Row("noise", "noise", "gaussian", albumentations="NoSuchTransform"),), 2, missing)
    assert set(result["pictures_per_second"]) == {"defusion"}
    assert list(missing) == ["albumentations NoSuchTransform"]

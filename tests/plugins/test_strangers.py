"""Plugins are code that somebody installed: switched off on demand, given up when they hang."""

from __future__ import annotations

import importlib.metadata
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from defusion_cli.degrade import Damage, plan_folder, run_task
from defusion_cli.errors import PluginError
from defusion_cli.images import write_image
from defusion_cli.plugins import load_registry
from defusion_cli.plugins.host import ENTRY_POINT_GROUP
from defusion_cli.plugins.patience import Hangs, patience


def test_third_parties_can_be_switched_off_without_being_imported(registry_with):
    registry_with("tint", "broken")
    for name in [name for name in sys.modules if name.startswith("fixture_")]:
        del sys.modules[name]
    registry = load_registry(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), own_only=True)
    assert {registry.source(plugin).distribution for plugin in registry} == {"defusion"}
    assert not [name for name in sys.modules if name.startswith("fixture_")]
    with pytest.raises(PluginError, match="cannot be used") as caught:
        registry["tint"]
    assert "switched off" in caught.value.found and "--no-third-party-plugins" in caught.value.fix


def test_a_plugin_that_hangs_costs_one_picture(registry_with, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    registry = registry_with("hanging")
    monkeypatch.setattr("defusion_cli.plugins.patience.PATIENCE_S", 0.3)
    for name, grey in (("dark", 0.05), ("light", 0.8)):
        write_image(tmp_path / "in" / f"{name}.png", np.full((8, 8, 3), grey, np.float32))
    tasks = plan_folder(tmp_path / "in", tmp_path / "out", Damage(("hanging",)), registry)
    outcomes = [run_task(task, tmp_path / "out", [None], False, registry)[0] for task in tasks]
    assert [(outcome.output, outcome.state) for outcome in outcomes] == [
        ("dark.png", "failed"),
        ("light.png", "written"),
    ]
    assert "hanging" in outcomes[0].problem.failed and "no result after 0 s" in outcomes[0].problem.found
    assert outcomes[0].problem.exit_code == 4


def test_patience_ends_with_the_work():
    before = signal.getsignal(signal.SIGALRM)
    with patience(10):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_patience_insists(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("defusion_cli.plugins.patience.PATIENCE_S", 0.05)
    caught = 0
    with pytest.raises(Hangs), patience(0):
        while True:
            try:
                time.sleep(5)
            except Hangs:
                caught += 1
                if caught == 2:
                    raise


def test_other_threads_are_let_alone():
    def work() -> None:
        with patience(0):
            seen.append(signal.getitimer(signal.ITIMER_REAL))

    seen: list[tuple[float, float]] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, 0)]

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from defusion_cli.commands.plugin_list import describe_registry, registry_table
from defusion_cli.errors import PluginError, UsageError
from defusion_cli.plugins import Registry, Source, installed_plugins, load_registry
from defusion_cli.plugins.attributes import wrong_attribute
from degradations.rain import RAIN

FIXTURES = Path(__file__).parents[1] / "fixture_plugins"
BUILT_IN = {
    "motion-blur",
    "defocus-blur",
    "haze",
    "snow",
    "rain",
    "raindrop",
    "noise",
    "jpeg",
    "low-light",
    "underwater",
}


def test_built_in_plugins_enter_through_the_public_door():
    registry = installed_plugins()
    assert set(registry) >= BUILT_IN
    assert all(registry.source(name).distribution == "defusion" for name in BUILT_IN)


def test_third_party_plugin_is_listed_with_its_distribution(registry_with):
    registry = registry_with("tint")
    assert registry["tint"].id == "tint"
    assert str(registry.source("tint")) == "fixture-tint 1.0 (fixture_tint:TINT)"
    assert not registry.broken


def test_broken_plugins_are_named_and_stop_nothing_else(registry_with):
    registry = registry_with("broken", "text", "tint")
    assert set(registry) >= BUILT_IN | {"tint"}
    reasons = {broken.name: (broken.source.distribution, broken.reason) for broken in registry.broken}
    assert reasons["broken"][0] == "fixture-broken"
    assert "a_library_that_nobody_has" in reasons["broken"][1]
    assert "not today" in reasons["leaving"][1]
    assert "fixture_leaving_not_there" in reasons["nothing"][1]
    assert reasons["text"][0] == "fixture-text"
    assert "is not a degradation" in reasons["text"][1]
    with pytest.raises(PluginError, match="installed but cannot be used") as error:
        registry["broken"]
    assert error.value.fix == "pip install --upgrade fixture-broken"


def test_plugins_that_say_something_wrong_of_themselves_are_broken(registry_with):
    registry = registry_with("careless")
    assert set(registry) >= BUILT_IN
    assert all(registry.source(name).distribution != "fixture-careless" for name in registry)
    reasons = {broken.name: broken.reason for broken in registry.broken}
    assert "version must be text, not int." in reasons["one"]
    assert "id must be text, not int." in reasons["seven"]
    assert "summary must be text, not NoneType." in reasons["silent"]
    assert "lower-case words" in reasons["Loud"]
    assert "the name of the entry point. found: id noise, entry point alias" in reasons["alias"]
    assert "position must be" in reasons["floating"]
    with pytest.raises(PluginError, match="version must be text"):
        registry["one"]


@pytest.mark.parametrize("draws", [0, (), (-1,), ("0",)])
def test_the_draws_that_stand_for_a_name_are_numbers(draws):
    kind = type("Odd", (type(RAIN),), {"named_draws": draws})
    assert "named_draws" in str(wrong_attribute(kind()))
    assert wrong_attribute(RAIN) is None


def test_a_reason_does_not_repeat_where_the_plugin_comes_from(registry_with):
    registry = registry_with("careless", "text", "duplicate")
    assert len(registry.broken) > 5
    for broken in registry.broken:
        assert str(broken.source) not in broken.reason
    with pytest.raises(PluginError) as error:
        registry["one"]
    assert str(error.value).count("fixture-careless 1.0") == 1


def test_the_reasons_of_broken_plugins_are_plain_text_on_one_line(registry_with):
    reasons = {broken.name: broken.reason for broken in registry_with("careless").broken}
    assert reasons["colourful"] == "RuntimeError: no way [31mat all"


def test_broken_plugins_are_listed(registry_with):
    registry = registry_with("careless")
    screen = Console(width=160)
    with screen.capture() as shown:
        screen.print(registry_table(registry))
    assert "broken: RuntimeError: no way" in shown.get()
    listed = describe_registry(registry)
    assert {row["id"] for row in listed["degradations"]} >= BUILT_IN
    assert {row["id"] for row in listed["broken"]} >= {"one", "seven", "silent", "Loud", "alias"}


def test_two_plugins_of_one_name_are_both_refused(registry_with):
    registry = registry_with("duplicate")
    assert "noise" not in registry
    assert set(registry) >= BUILT_IN - {"noise"}
    with pytest.raises(PluginError) as error:
        registry["noise"]
    assert "fixture-duplicate 1.0" in str(error.value)
    assert "defusion 0." in str(error.value)
    assert error.value.fix == "pip uninstall fixture-duplicate"
    assert len([broken for broken in registry.broken if broken.name == "noise"]) == 2


def test_a_module_that_hides_the_built_in_ones_is_named():
    code = (
        "from defusion_cli.plugins import installed_plugins\n"
        "r = installed_plugins()\n"
        "print(len(r), {b.reason for b in r.broken if b.source.distribution == 'defusion'})"
    )
    shadow = FIXTURES / "shadow"
    run = subprocess.run([sys.executable, "-c", code], cwd=shadow, capture_output=True, text=True, check=True)
    count, reason = run.stdout.split(" ", 1)
    assert count == "0"
    assert f"{shadow / 'degradations.py'} hides the built-in package" in reason


def test_a_registry_is_unchanged_if_an_add_fails(registry_with):
    registry = Registry()
    tint = registry_with("tint")["tint"]
    registry.add(tint, Source("here", "1", "here:TINT"))
    with pytest.raises(PluginError, match="Two distributions"):
        registry.add(tint, Source("there", "1", "there:TINT"))
    with pytest.raises(PluginError, match="is not a degradation"):
        registry.add("rain", Source("there", "1", "there:RAIN"))
    assert list(registry) == ["tint"]
    assert registry.source("tint").distribution == "here"


def test_a_mistyped_name_gets_a_suggestion():
    with pytest.raises(UsageError) as error:
        installed_plugins()["rian"]
    assert error.value.fix == "did you mean rain?"
    assert "snow" in error.value.accepted


def test_no_entry_points_give_an_empty_registry():
    assert len(load_registry([])) == 0

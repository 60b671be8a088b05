from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest

from defusion_cli.errors import PluginError
from defusion_cli.plugins import check_degradation


@pytest.fixture
def tint_class(registry_with):
    registry_with("tint")
    return importlib.import_module("fixture_tint").Tint


def test_a_good_plugin_passes(tint_class):
    check_degradation(tint_class())


def changed(base, **members):
    return type("Changed", (base,), members)()


def apply_with(change):
    def apply(self, image, params, rng, scene=None):
        return change(super(type(self), self).apply(image, params, rng, scene), image, params, rng)

    return apply


CALLS = iter(range(10**9))


@pytest.mark.parametrize(
    ("change", "promise"),
    [
        (lambda out, image, params, rng: out.astype(np.float64), "float32 of that shape"),
        (lambda out, image, params, rng: out[:-1], "float32 of that shape"),
        (lambda out, image, params, rng: out + 1, "must stay in"),
        (lambda out, image, params, rng: out * np.nan, "must stay in"),
        (lambda out, image, params, rng: None, "apply must return a picture, not NoneType"),
        (lambda out, image, params, rng: [].pop(), "apply raised IndexError: pop from empty list"),
        (lambda out, image, params, rng: image, "must return a new array"),
        (lambda out, image, params, rng: np.multiply(image, 0.9, out=image).copy(), "must not change its input"),
        (lambda out, image, params, rng: out * (0.9 + next(CALLS) % 7 / 100), "same seed must give the same pixels"),
        (lambda out, image, params, rng: out * rng.random(int(image.sum()), np.float32)[0], "must not depend on pixel"),
        (lambda out, image, params, rng: out * np.float32(0.9), "must leave the picture"),
        (lambda out, image, params, rng: image + 0, "severity must be monotone"),
    ],
)
def test_every_broken_promise_is_found(tint_class, change, promise):
    with pytest.raises(PluginError, match=promise):
        check_degradation(changed(tint_class, apply=apply_with(change)))


def test_names_and_parameters_are_checked(tint_class):
    with pytest.raises(PluginError, match="lower-case words"):
        check_degradation(changed(tint_class, id="Tint It"))
    with pytest.raises(PluginError, match="one line"):
        check_degradation(changed(tint_class, summary=""))
    with pytest.raises(PluginError, match="position"):
        check_degradation(changed(tint_class, position=3))
    with pytest.raises(PluginError, match="faintest"):
        check_degradation(changed(tint_class, faintest=(8.0, 8.0)))
    with pytest.raises(PluginError, match="faintest"):
        check_degradation(changed(tint_class, faintest=None))
    with pytest.raises(PluginError, match="version must be text, not int"):
        check_degradation(changed(tint_class, version=1))

    @dataclasses.dataclass(frozen=True)
    class Bare:
        strength: float = 0.5

    with pytest.raises(PluginError, match=r"made with param"):
        check_degradation(changed(tint_class, Params=Bare))


def test_sampling_outside_the_ranges_is_found(tint_class):
    def sample(self, rng, severity=None):
        return self.Params(strength=1.5)

    with pytest.raises(
        PluginError, match=r"tint: sampled parameters must lie in their ranges: tint\.strength"
    ) as error:
        check_degradation(changed(tint_class, sample=sample))
    assert error.value.found == "1.5" and "0 … 1" in error.value.accepted


@pytest.mark.parametrize("method", ["sample", "neutral", "instruction", "apply_8bit"])
def test_every_method_that_raises_is_named(tint_class, method):
    def raising(self, *arguments):
        raise ValueError("no\n\x1blines")

    with pytest.raises(PluginError, match=f"tint: {method} raised ValueError: no lines"):
        check_degradation(changed(tint_class, **{method: raising}))


def test_what_is_no_params_is_found(tint_class):
    with pytest.raises(PluginError, match="sample must return Params, not NoneType"):
        check_degradation(changed(tint_class, sample=lambda self, rng, severity=None: None))


def test_what_is_no_instruction_is_found(tint_class):
    with pytest.raises(PluginError, match="the instruction must be"):
        check_degradation(changed(tint_class, instruction=lambda self, ground, params, rng: ground[:-1]))


def test_severity_that_runs_backwards_is_found(tint_class):
    def sample(self, rng, severity=None):
        return self.Params(strength=1 - (rng.random() if severity is None else severity))

    with pytest.raises(PluginError, match="severity must be monotone"):
        check_degradation(changed(tint_class, sample=sample))

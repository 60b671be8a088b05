from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest

from defusion_cli.errors import UsageError
from defusion_cli.plugins import build_params, describe_params, param, params_to_json, replace_params


@dataclass(frozen=True)
class Params:
    sigma: float = param(25.0, meaning="strength", unit="/255", low=0, high=100)
    count: int = param(3, meaning="how many", low=1, high=9)
    linear: bool = param(True, meaning="in linear light")
    space: str = param("srgb", meaning="colour space", choices=("srgb", "linear"))


def test_values_are_converted_and_the_rest_keeps_its_default():
    params = build_params(Params, {"sigma": "12.5", "count": 4.0, "linear": "False"}, "noise")
    assert params == Params(12.5, 4, False, "srgb")
    assert type(params.count) is int


@pytest.mark.parametrize(
    ("values", "sentence", "accepted"),
    [
        ({"sigma": 101}, "noise.sigma is out of range.", "0 … 100 /255"),
        ({"sigma": -1e-9}, "noise.sigma is out of range.", "0 … 100 /255"),
        ({"sigma": math.nan}, "noise.sigma is out of range.", "0 … 100 /255"),
        ({"sigma": "inf"}, "noise.sigma is out of range.", "0 … 100 /255"),
        ({"sigma": "loud"}, "noise.sigma is not a number.", "0 … 100 /255"),
        ({"sigma": True}, "noise.sigma is not a number.", "0 … 100 /255"),
        ({"sigma": [1]}, "noise.sigma is not a number.", "0 … 100 /255"),
        ({"sigma": None}, "noise.sigma is not a number.", "0 … 100 /255"),
        ({"count": 2.5}, "noise.count is not a whole number.", "1 … 9"),
        ({"count": math.inf}, "noise.count is not a whole number.", "1 … 9"),
        ({"count": 10**400}, "noise.count is not a whole number.", "1 … 9"),
        ({"linear": 1}, "noise.linear is not a truth value.", "true or false"),
        ({"space": "xyz"}, "noise.space has no such choice.", "srgb, linear"),
        ({"space": ["srgb"]}, "noise.space has no such choice.", "srgb, linear"),
    ],
)
def test_wrong_values_are_told_what_is_accepted(values, sentence, accepted):
    with pytest.raises(UsageError) as error:
        build_params(Params, values, "noise")
    assert (error.value.failed, error.value.accepted) == (sentence, accepted)


def test_an_unknown_key_gets_a_suggestion():
    with pytest.raises(UsageError) as error:
        build_params(Params, {"sigmma": 3}, "noise")
    assert error.value.fix == "did you mean noise.sigma?"
    with pytest.raises(UsageError) as error:
        build_params(Params, {"qqq": 3}, "noise")
    assert "--list --plugin noise" in error.value.fix


def test_json_gives_the_same_object_back():
    params = Params(math.pi, 9, False, "linear")
    assert build_params(Params, json.loads(json.dumps(params_to_json(params))), "noise") == params


def test_replace_validates_and_leaves_the_original():
    params = Params()
    assert replace_params(params, {"count": 5}, "noise") == Params(count=5)
    assert params == Params()
    with pytest.raises(UsageError):
        replace_params(params, {"count": 99}, "noise")


def test_description_has_a_row_per_field():
    rows = describe_params(Params)
    assert [row["name"] for row in rows] == ["sigma", "count", "linear", "space"]
    assert rows[0]["unit"] == "/255"
    assert rows[3]["choices"] == ("srgb", "linear")


def test_careless_declarations_are_refused():
    with pytest.raises(TypeError, match="low <= default <= high"):
        param(3.0, meaning="no bounds")
    with pytest.raises(TypeError, match="low <= default <= high"):
        param(3.0, meaning="outside", low=4, high=5)
    with pytest.raises(TypeError, match="one of its choices"):
        param("a", meaning="no choices")

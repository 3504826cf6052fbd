from __future__ import annotations

from typing import Any

import pytest

from services.assignment.domain.bucketing import bucket_of
from services.assignment.domain.flags import MAX_DESCRIPTION, MAX_SALT, canonical, parse_flag
from services.assignment.domain.switches import Off, Switchboard, Verdict
from services.assignment.flag_directory import FlagDirectory
from shared.definition_error import DefinitionError
from shared.messages import Flag, Switch


def parse(spec: object) -> Any:
    return parse_flag("default", "f", 1, spec)


VALUES: dict[str, list[Any]] = {
    "boolean": [True, False],
    "string": ["", "x", "1", "ü"],
    "number": [0, 1, -1, 2**64 - 1, 0.5, -1e300],
    "json": [{}, {"a": None}, [], [1, "x"]],
}
NEVER = [None]


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("place", ["value", "off_value"])
def test_a_value_has_the_flags_type(kind: str, place: str) -> None:
    good = {"type": kind, "value": VALUES[kind][0]}
    for value in VALUES[kind]:
        assert getattr(parse({**good, place: value}), place) == value
    for value in [v for other, values in VALUES.items() if other != kind for v in values] + NEVER:
        with pytest.raises(DefinitionError, match=f"spec.{place}: must be .*the flag's type is {kind}"):
            parse({**good, place: value})


def test_a_boolean_needs_no_values_and_the_others_need_the_one_that_is_on() -> None:
    boolean = parse({"type": "boolean"})
    assert (boolean.value, boolean.off_value, boolean.enabled, boolean.salt) == (True, False, True, "f")
    for kind in ("string", "number", "json"):
        assert parse({"type": kind, "value": VALUES[kind][0]}).off_value is None
        with pytest.raises(DefinitionError, match=r"spec\.value: a .* flag needs the value"):
            parse({"type": kind})


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        (None, "spec"),
        ([], "spec"),
        ("boolean", "spec"),
        ({}, "spec.type"),
        ({"type": None}, "spec.type"),
        ({"type": "bool"}, "spec.type"),
        ({"type": {}}, "spec.type"),
        ({"type": "boolean", "enabled": "false"}, "spec.enabled"),
        ({"type": "boolean", "enabled": None}, "spec.enabled"),
        ({"type": "boolean", "enabled": 0}, "spec.enabled"),
        ({"type": "boolean", "salt": None}, "spec.salt"),
        ({"type": "boolean", "salt": "x" * (MAX_SALT + 1)}, "spec.salt"),
        ({"type": "boolean", "description": ["x"]}, "spec.description"),
        ({"type": "boolean", "description": "x" * (MAX_DESCRIPTION + 1)}, "spec.description"),
        ({"type": "boolean", "default": True}, "spec"),
        ({"type": "boolean", 1: True}, "spec"),
    ],
)
def test_a_fault_is_named_by_its_place(spec: object, place: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse(spec)
    assert refused.value.place == place


def test_an_unknown_field_is_refused_with_the_known_ones_named() -> None:
    with pytest.raises(DefinitionError, match=r"no field 'ofvalue'; it may have type, value, off_value, enabled"):
        parse({"type": "boolean", "ofvalue": False})


def test_specs_that_mean_the_same_are_the_same_definition() -> None:
    plain = canonical({"type": "boolean"})
    assert canonical({"enabled": True, "value": True, "off_value": False, "type": "boolean"}) == plain
    assert canonical({"type": "json", "value": {"a": 1, "b": 2}}) == canonical(
        {"type": "json", "value": {"b": 2, "a": 1}}
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"value": 1}, {"value": 1.0}),
        ({"value": 1}, {"value": 1, "off_value": 0}),
        ({"value": 1}, {"value": 1, "enabled": False}),
        ({"value": 1}, {"value": 1, "salt": "s"}),
        ({"value": 1}, {"value": 1, "description": "d"}),
    ],
)
def test_specs_that_mean_something_else_are_different(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert canonical({"type": "number", **one}) != canonical({"type": "number", **other})


def test_a_json_list_of_true_differs_from_a_list_of_ones() -> None:
    assert canonical({"type": "json", "value": [True]}) != canonical({"type": "json", "value": [1]})


def test_a_half_open_flag_asks_for_the_units_bucket_under_its_own_salt() -> None:
    bucket = bucket_of("pepper", "u")
    board = Switchboard()
    half: dict[str, Any] = {"admit_from": bucket, "admit_to": bucket + 1}
    board.apply(Switch(organisation="default", flag="f", cause="breaker:b", off=True, decided_at=1, **half))
    hold = board.hold("default", "f")
    assert hold is not None
    assert parse({"type": "boolean", "salt": "pepper"}).judge(hold, "u") is Verdict.PROBE
    assert isinstance(parse({"type": "boolean"}).judge(hold, "u"), Off)
    assert parse({"type": "boolean"}).judge(hold, None) == parse({"type": "boolean"}).judge(hold, "u")


def test_a_switch_that_names_the_flags_only_variant_means_the_flag() -> None:
    for variant, judged in (("on", Off), ("treatment", Verdict)):
        board = Switchboard()
        board.apply(
            Switch(organisation="default", flag="f", variant=variant, cause="breaker:b", off=True, decided_at=1)
        )
        hold = board.hold("default", "f")
        assert hold is not None
        assert isinstance(parse({"type": "boolean"}).judge(hold, None), judged)


def test_the_highest_version_of_a_flag_stays_whatever_comes_later() -> None:
    directory = FlagDirectory()
    for version in (2, 3, 1):
        directory.learn(
            Flag(organisation="default", key="f", version=version, spec={"type": "number", "value": version})
        )
    entry = directory.find("default", "f")
    assert entry is not None
    assert entry.flag.value == 3
    directory.learn(Flag(organisation="default", key="f", version=4, spec={"type": "unheard"}))
    assert directory.find("default", "f") is entry
    assert directory.find("acme", "f") is None

"""Filters: what they take, and how they name what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from services.aggregator.domain.filters import parse_filter
from shared.definition_error import DefinitionError
from tests.unit.aggregator.builders import decoded

EVENT = decoded(
    user_id="u1",
    properties={"n": 5, "f": 2.5, "t": "abc", "yes": True, "null": None, "list": [1], "deep": {"a": {"b": "x"}}},
    context={"networkType": "4g"},
)


def matches(spec: Any) -> bool:
    return parse_filter(spec, "filter").matches(EVENT)


def condition(path: str, op: str, value: Any) -> dict[str, Any]:
    return {"path": path, "op": op, "value": value}


@pytest.mark.parametrize(
    ("path", "op", "value", "expected"),
    [
        ("properties.n", "eq", 5, True),
        ("properties.n", "eq", 5.0, True),
        ("properties.n", "eq", "5", False),
        ("properties.n", "ne", "5", True),
        ("properties.yes", "eq", True, True),
        ("properties.yes", "eq", 1, False),
        ("properties.yes", "ne", 1, True),
        ("properties.absent", "eq", "x", False),
        ("properties.absent", "ne", "x", True),
        ("properties.list", "eq", 1, False),
        ("properties.n", "lt", 6, True),
        ("properties.n", "lt", 5, False),
        ("properties.n", "le", 5, True),
        ("properties.n", "gt", 4.9, True),
        ("properties.f", "ge", 2.5, True),
        ("properties.n", "lt", "6", False),
        ("properties.t", "lt", "abd", True),
        ("properties.t", "ge", 0, False),
        ("properties.yes", "ge", 0, False),
        ("properties.absent", "lt", 1, False),
        ("properties.t", "in", ["x", "abc"], True),
        ("properties.t", "in", [], False),
        ("properties.yes", "in", [1, "true"], False),
        ("properties.n", "in", [True, 5.0], True),
        ("properties.list", "in", [1], False),
        ("properties.n", "exists", True, True),
        ("properties.n", "exists", None, True),
        ("properties.null", "exists", True, False),
        ("properties.absent", "exists", False, True),
        ("properties.deep.a.b", "eq", "x", True),
        ("properties.deep.a", "exists", True, True),
        ("properties.deep.a.b.c", "exists", True, False),
        ("properties.t.a", "exists", True, False),
        ("context.networkType", "eq", "4g", True),
        ("event_type", "eq", "click", True),
        ("user_id", "eq", "u1", True),
        ("session_id", "exists", True, False),
        ("data_source_id", "eq", 1, True),
    ],
)
def test_a_condition_compares_like_with_like(path: str, op: str, value: Any, expected: bool) -> None:
    assert matches(condition(path, op, value)) is expected
    assert matches({"not": condition(path, op, value)}) is not expected


def test_without_an_operator_a_condition_asks_for_equality() -> None:
    assert matches({"path": "user_id", "value": "u1"})


def test_all_any_and_not_combine() -> None:
    yes, no = condition("properties.n", "eq", 5), condition("properties.n", "eq", 6)
    assert matches({"all": [yes, yes]})
    assert not matches({"all": [yes, no]})
    assert matches({"any": [no, yes]})
    assert not matches({"any": [no, no]})
    assert matches({"all": [{"any": [no, yes]}, {"not": {"all": [yes, no]}}]})


def test_an_integer_beyond_every_float_is_compared_exactly() -> None:
    huge = decoded(properties={"n": 10**4000})
    assert parse_filter(condition("properties.n", "gt", 1e308), "filter").matches(huge)
    assert not parse_filter(condition("properties.n", "eq", 1e308), "filter").matches(huge)


YES: dict[str, Any] = {"path": "user_id", "value": "u"}


def nested(depth: int) -> dict[str, Any]:
    return YES if depth == 1 else {"not": nested(depth - 1)}


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        (None, "filter"),
        ([], "filter"),
        ("x", "filter"),
        ({}, "filter.path"),
        ({"all": []}, "filter.all"),
        ({"any": {"path": "user_id"}}, "filter.any"),
        ({"all": [YES, 5]}, "filter.all[1]"),
        ({"all": [YES, {"not": {"any": [{"path": "user_id", "op": "like"}]}}]}, "filter.all[1].not.any[0].op"),
        ({"not": None}, "filter.not"),
        ({"path": "user_id", "value": "u", "extra": 1}, "filter.extra"),
        ({"path": "nowhere.x", "value": 1}, "filter.path"),
        ({"path": "properties", "value": 1}, "filter.path"),
        ({"path": "properties..x", "value": 1}, "filter.path"),
        ({"path": "user_id.x", "value": 1}, "filter.path"),
        ({"path": 5, "value": 1}, "filter.path"),
        ({"path": "properties." + "x" * 200, "value": 1}, "filter.path"),
        ({"path": "user_id"}, "filter.value"),
        ({"path": "user_id", "op": "eq", "value": [1]}, "filter.value"),
        ({"path": "user_id", "op": "lt", "value": True}, "filter.value"),
        ({"path": "user_id", "op": "in", "value": "abc"}, "filter.value"),
        ({"path": "user_id", "op": "in", "value": [[1]]}, "filter.value"),
        ({"path": "user_id", "op": "exists", "value": "yes"}, "filter.value"),
        ({"path": "user_id", "op": ["eq"], "value": 1}, "filter.op"),
        (nested(11), "filter" + ".not" * 10),
    ],
)
def test_a_faulty_filter_is_refused_at_its_faulty_place(spec: Any, place: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse_filter(spec, "filter")
    assert refused.value.place == place
    assert refused.value.what
    assert str(refused.value).startswith(f"{place}: ")


def test_ten_levels_are_not_too_deep() -> None:
    assert parse_filter(nested(10), "filter").matches(EVENT)

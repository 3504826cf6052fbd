"""The published JSON Schema: current, valid, and at one with the parser."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # its stubs are another package

from services.aggregator.domain.metrics import KINDS, parse_definition
from services.aggregator.domain.schema import as_file, metric_schema
from services.aggregator.examples import EXAMPLES
from shared.definition_error import DefinitionError
from tests.unit.aggregator import test_metrics
from tests.unit.aggregator.builders import bounded
from tests.unit.aggregator.test_differential import METRICS

FILE = Path(__file__).parents[3] / "docs" / "metric.schema.json"
VALIDATOR = Draft202012Validator(metric_schema())
SPECS: list[dict[str, Any]] = [*(dict(e["value"]) for e in EXAMPLES.values()), *(m.spec for m in METRICS)]


def accepted(spec: object) -> bool:
    try:
        parse_definition("acme", "m", 1, spec)
    except DefinitionError:
        return False
    return True


def test_the_file_is_current() -> None:
    current = FILE.read_text(encoding="utf-8") == as_file()
    assert current, "run `python -m services.aggregator.domain.schema > docs/metric.schema.json`"


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(metric_schema())


def test_every_type_has_a_schema_and_an_example() -> None:
    assert metric_schema()["properties"]["type"]["enum"] == list(KINDS)
    assert list(EXAMPLES) == list(KINDS)
    assert [example["value"]["type"] for example in EXAMPLES.values()] == list(KINDS)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["type"])
def test_what_the_parser_accepts_validates(spec: dict[str, Any]) -> None:
    assert accepted(spec)
    assert [error.message for error in VALIDATOR.iter_errors(spec)] == []


BEYOND: list[Any] = [
    "spec.value",
    "spec.of",
    "spec.filter.expression",
    "spec.filter.all[0].path",
    "spec.group_by[1]",
    "spec.winsorise.upper",
    {**test_metrics.VALUE, "scale": 6.0},
    {**test_metrics.SURVEY, "aggregations": ["nps"]},
    {**test_metrics.SURVEY, "questions": {"a": {"min": 2, "max": 1}}},
]
"""Faults in what a schema takes for any text, or that lie between two fields; 6.0 is an integer to it."""


@pytest.mark.parametrize(("spec", "place"), test_metrics.FAULTY)
def test_what_the_parser_refuses_does_not_validate_where_the_schema_can_say_so(spec: Any, place: str) -> None:
    assert place in BEYOND or spec in BEYOND or not VALIDATOR.is_valid(spec)


ODD: list[Any] = [None, True, 0, 1, -1, 1.5, 10**6, "", "x", "p95", "share<=5", "properties.a", "1h", [], ["p50"], {}]
ODD += [{"event": "a"}, {"path": "user_id", "op": "exists"}, [{"name": "a", "event": "b"}], {"a": None}, ["a"] * 6]


def places_in(part: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    children = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, child in children:
        found += places_in(child, (*path, key))
    return found


@settings(bounded, max_examples=300)
@given(st.sampled_from(SPECS), st.data())
def test_whatever_the_parser_accepts_the_schema_accepts(spec: dict[str, Any], data: st.DataObject) -> None:
    spec = copy.deepcopy(spec)
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places_in(spec)))
        parent: Any = spec
        for step in way:
            parent = parent[step]
        change = data.draw(st.sampled_from(["delete", "replace", "add"]))
        if change == "replace":
            parent[last] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
        elif change == "delete" and len(spec) > 1:
            del parent[last]
        elif isinstance(parent, dict):
            name = data.draw(st.sampled_from(["filter", "min", "event", "value", "odd"]))
            parent[name] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
    if accepted(spec):
        assert [error.message for error in VALIDATOR.iter_errors(spec)] == [], spec

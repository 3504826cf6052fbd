"""Metric definitions: what specs mean, and how faulty ones are refused."""

from __future__ import annotations

from typing import Any

import pytest

from services.aggregator.domain.kinds.kind import percentile_of
from services.aggregator.domain.metrics import canonical, parse_definition
from services.aggregator.domain.specs import Selector
from shared.definition_error import DefinitionError


def parse(spec: object, key: str = "m") -> Any:
    return parse_definition("acme", key, 3, spec)


def test_a_count_takes_every_event_unless_told_otherwise() -> None:
    found = parse({"type": "count"})
    assert (found.organisation, found.key, found.version, found.kind.scale) == ("acme", "m", 3, 6)
    (measure,) = found.kind.measures
    assert (measure.component, measure.select, measure.value) == ("value", Selector(None, None), None)
    assert found.kind.aggregations == ("count",)
    assert not measure.sketched


def test_a_value_metric_keeps_the_simple_aggregations_and_percentiles_on_demand() -> None:
    simple = parse({"type": "value", "event": "buy", "value": "properties.amount"})
    assert simple.kind.aggregations == ("count", "sum", "avg", "min", "max")
    assert simple.kind.measures[0].select.events == frozenset({"buy"})
    assert str(simple.kind.measures[0].value) == "properties.amount"
    assert not simple.kind.measures[0].sketched
    asked = parse({"type": "value", "value": "properties.amount", "aggregations": ["p95", "sum", "p95", "p99.9"]})
    assert asked.kind.aggregations == ("p95", "sum", "p99.9")
    assert asked.kind.measures[0].sketched


def test_a_ratio_is_two_measures() -> None:
    found = parse(
        {
            "type": "ratio",
            "numerator": {"event": ["a", "b"], "filter": {"path": "user_id", "op": "exists"}},
            "denominator": {"value": "properties.v"},
            "group_by": ["properties.g", "context.networkType"],
            "scale": 0,
        }
    )
    assert [m.component for m in found.kind.measures] == ["numerator", "denominator"]
    assert found.kind.measures[0].select.events == frozenset({"a", "b"})
    assert found.kind.measures[0].select.where is not None
    assert (found.kind.aggregations, found.kind.scale) == (("avg",), 0)
    assert [str(p) for p in found.group_by] == ["properties.g", "context.networkType"]


def test_one_name_may_stand_for_a_list_of_one() -> None:
    found = parse({"type": "value", "value": "properties.v", "aggregations": "p50", "group_by": "user_id"})
    assert found.kind.aggregations == ("p50",)
    assert [str(p) for p in found.group_by] == ["user_id"]


@pytest.mark.parametrize(
    ("name", "share"),
    [("p50", 0.5), ("p1", 0.01), ("p99.9", 0.999), ("p99.99", 0.9999), ("p07", 0.07), ("p0.01", 0.0001)],
)
def test_a_percentile_is_the_exact_share(name: str, share: float) -> None:
    assert percentile_of(name) == share


@pytest.mark.parametrize(
    "name", ["p0", "p00.0", "p100", "p", "95", "p95.", "p9.123", "P95", "p-5", "p95 ", "avg", "p٥"]
)
def test_what_lies_not_between_0_and_100_is_no_percentile(name: str) -> None:
    assert percentile_of(name) is None


VALUE: dict[str, Any] = {"type": "value", "value": "properties.v"}
RATIO: dict[str, Any] = {"type": "ratio", "numerator": {}, "denominator": {}}


UNIQUE: dict[str, Any] = {"type": "unique", "of": "user_id"}
BREAKDOWN: dict[str, Any] = {"type": "breakdown", "of": "properties.list"}
SURVEY: dict[str, Any] = {"type": "survey", "questions": {"a": {}}}

FAULTY: list[tuple[Any, str]] = [
    (None, "spec"),
    ([], "spec"),
    ({}, "spec.type"),
    ({"type": "sum"}, "spec.type"),
    ({"type": ["count"]}, "spec.type"),
    ({"type": "count", "typo": 1}, "spec.typo"),
    ({"type": "count", "numerator": {}}, "spec.numerator"),
    ({"type": "count", "value": "properties.v"}, "spec.value"),
    ({"type": "value"}, "spec.value"),
    (
        {"type": "value", "value": "properties.v", "aggregations": [f"share<={i}" for i in range(51)]},
        "spec.aggregations",
    ),
    ({"type": "count", "winsorise": {"upper": 10**400}}, "spec.winsorise.upper"),
    ({"type": "survey", "questions": {"a": {"value": 0}}}, "spec.questions.a.value"),
    ({"type": "value", "value": "v"}, "spec.value"),
    ({"type": "count", "event": ""}, "spec.event"),
    ({"type": "count", "event": []}, "spec.event"),
    ({"type": "count", "event": ["a", 5]}, "spec.event"),
    ({"type": "count", "filter": {"all": [{"path": "x"}]}}, "spec.filter.all[0].path"),
    ({"type": "count", "filter": []}, "spec.filter"),
    ({"type": "count", "aggregations": ["sum"]}, "spec.aggregations"),
    ({"type": "count", "aggregations": ["p95"]}, "spec.aggregations"),
    ({**VALUE, "aggregations": []}, "spec.aggregations"),
    ({**VALUE, "aggregations": ["p100"]}, "spec.aggregations"),
    ({**VALUE, "aggregations": ["median"]}, "spec.aggregations"),
    ({**VALUE, "aggregations": [5]}, "spec.aggregations"),
    ({**VALUE, "aggregations": [["sum"]]}, "spec.aggregations"),
    ({**VALUE, "aggregations": {"sum": 1}}, "spec.aggregations"),
    ({**VALUE, "group_by": ["properties.g", "g"]}, "spec.group_by[1]"),
    ({**VALUE, "group_by": ["properties.g"] * 6}, "spec.group_by"),
    ({**VALUE, "group_by": {"properties.g": 1}}, "spec.group_by"),
    ({**VALUE, "scale": 10}, "spec.scale"),
    ({**VALUE, "scale": -1}, "spec.scale"),
    ({**VALUE, "scale": True}, "spec.scale"),
    ({**VALUE, "scale": 6.0}, "spec.scale"),
    ({"type": "ratio"}, "spec.numerator"),
    ({"type": "ratio", "numerator": {}}, "spec.denominator"),
    ({**RATIO, "event": "a"}, "spec.event"),
    ({**RATIO, "numerator": {"scale": 3}}, "spec.numerator.scale"),
    ({**RATIO, "denominator": {"event": [""]}}, "spec.denominator.event"),
    ({**RATIO, "denominator": {"filter": {"not": 1}}}, "spec.denominator.filter.not"),
    ({**RATIO, "aggregations": ["sum"]}, "spec.aggregations"),
    ({**VALUE, "value": "properties.a +"}, "spec.value"),
    ({**VALUE, "aggregations": ["share<5", "share=5"]}, "spec.aggregations"),
    ({**VALUE, "aggregations": ["share<=1e5"]}, "spec.aggregations"),
    ({**VALUE, "max_groups": 0}, "spec.max_groups"),
    ({**VALUE, "max_groups": 10_001}, "spec.max_groups"),
    ({**VALUE, "max_groups": "9"}, "spec.max_groups"),
    ({"type": "unique"}, "spec.of"),
    ({**UNIQUE, "of": "user"}, "spec.of"),
    ({**UNIQUE, "exact_up_to": -1}, "spec.exact_up_to"),
    ({**UNIQUE, "exact_up_to": 100_001}, "spec.exact_up_to"),
    ({**UNIQUE, "aggregations": ["sum"]}, "spec.aggregations"),
    ({**UNIQUE, "value": "user_id"}, "spec.value"),
    ({"type": "breakdown"}, "spec.of"),
    ({**BREAKDOWN, "of": "properties.a[].b..c"}, "spec.of"),
    ({**BREAKDOWN, "of": "a[].b"}, "spec.of"),
    ({**BREAKDOWN, "aggregations": ["avg"]}, "spec.aggregations"),
    ({"type": "survey"}, "spec.questions"),
    ({"type": "survey", "questions": {}}, "spec.questions"),
    ({"type": "survey", "questions": ["a"]}, "spec.questions"),
    ({"type": "survey", "questions": {"a b": {}}}, "spec.questions.a b"),
    ({"type": "survey", "questions": {"a": 5}}, "spec.questions.a"),
    ({"type": "survey", "questions": {"a": {"typo": 1}}}, "spec.questions.a.typo"),
    ({"type": "survey", "questions": {"a": {"min": "1"}}}, "spec.questions.a.min"),
    ({"type": "survey", "questions": {"a": {"min": 2, "max": 1}}}, "spec.questions.a.min"),
    ({"type": "survey", "questions": {"a": {"nps": 1}}}, "spec.questions.a.nps"),
    ({**SURVEY, "aggregations": ["nps"]}, "spec.aggregations"),
    ({**SURVEY, "aggregations": ["sum"]}, "spec.aggregations"),
    ({"type": "count", "filter": {"expression": "1 +"}}, "spec.filter.expression"),
]


@pytest.mark.parametrize(("spec", "place"), FAULTY)
def test_a_faulty_spec_is_refused_at_its_faulty_place(spec: Any, place: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse(spec)
    assert refused.value.place == place


@pytest.mark.parametrize("key", ["", "_x", "-x", "a b", "a/b", "ä", "x" * 129, "a\x00", "a\n"])
def test_a_key_that_cannot_stand_in_a_url_is_refused(key: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse({"type": "count"}, key)
    assert refused.value.place == "key"


@pytest.mark.parametrize("key", ["a", "0", "import.duration:p95-v2_x", "x" * 128])
def test_ordinary_keys_pass(key: str) -> None:
    assert parse({"type": "count"}, key).key == key


def test_notation_makes_no_new_version() -> None:
    one = {"type": "count", "event": "a", "filter": None, "description": "x"}
    assert canonical(one) == canonical({"event": "a", "type": "count", "description": "another"})
    assert canonical({"group_by": ("a", "b")}) == canonical({"group_by": ["a", "b"]})


def test_true_instead_of_one_makes_a_new_version() -> None:
    def filtered(value: object) -> Any:
        return canonical({"type": "count", "filter": {"path": "properties.x", "op": "in", "value": [value]}})

    assert filtered(True) == filtered(True)
    assert filtered(True) != filtered(1)
    assert filtered(False) != filtered(0)
    assert filtered(1) == filtered(1.0)


def test_another_meaning_makes_a_new_version() -> None:
    assert canonical({"type": "count", "event": "a"}) != canonical({"type": "count", "event": "b"})
    assert canonical({"aggregations": ["sum", "avg"]}) != canonical({"aggregations": ["sum"]})


def test_a_refusal_does_not_grow_with_what_was_sent() -> None:
    with pytest.raises(DefinitionError) as refused:
        parse({"type": "count", "aggregations": ["x" * 100_000]})
    assert len(str(refused.value)) < 300


def test_a_filter_has_a_bounded_number_of_conditions_however_they_are_nested() -> None:
    def filtered(*widths: int) -> dict[str, Any]:
        some = [{"any": [{"path": "user_id", "op": "exists"}] * width} for width in widths]
        return {"type": "count", "filter": {"not": {"all": some}}}

    parse(filtered(100, 100))
    for widths, place in (((100, 101), "spec.filter.not.all"), ((1, 201), "spec.filter.not.all[1].any")):
        with pytest.raises(DefinitionError) as refused:
            parse(filtered(*widths))
        assert refused.value.place == place


def test_rules_of_a_journey_have_a_bounded_number_of_conditions() -> None:
    def ruled(n: int) -> dict[str, Any]:
        many = [{"reached": "a", "within": i + 1} for i in range(n)]
        spec = {"type": "journey", "unit": "job", "start": {"event": "s"}, "steps": [{"name": "a", "event": "a"}]}
        return {**spec, "outcomes": [{"name": "soon", "when": {"any": many}}]}

    parse(ruled(199))
    with pytest.raises(DefinitionError) as refused:
        parse(ruled(6_000))
    assert refused.value.place == "spec.outcomes[0].when.any[199]"

"""Schemas that organisations wrote, and events that somebody sends: neither may take the service's time."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # its stubs are another package

from services.ingest.domain.normalise import MAX_EVENT_BYTES
from services.ingest.domain.quality.json_schema import DIALECT, MAX_PARTS, compiled
from shared.definition_error import DefinitionError

ORDER: dict[str, Any] = {
    "$schema": DIALECT,
    "$id": "https://example.com/order",
    "type": "object",
    "required": ["amount"],
    "properties": {
        "amount": {"type": "number", "multipleOf": 0.01},
        "lines": {"items": {"$ref": "#/$defs/line"}},
        "email": {"format": "email"},
    },
    "$defs": {"line": {"required": ["sku"], "properties": {"sku": {"type": "string", "pattern": "^[A-Z]+$"}}}},
}


def fault(schema: dict[str, Any], value: Any) -> str | None:
    return compiled(schema, "spec").fault(value, "event_data")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"amount": 19.99, "lines": [{"sku": "A"}], "email": "a@example.com"}, None),
        ({}, 'event_data: "amount" is a required property'),
        ({"amount": "1"}, 'event_data.amount: the value is not of type "number"'),
        ({"amount": 0.005}, "event_data.amount: is not a multiple of 0.01"),
        ({"amount": 1, "lines": [{"sku": "A"}, {}]}, 'event_data.lines[1]: "sku" is a required property'),
        ({"amount": 1, "lines": [{"sku": "a"}]}, 'event_data.lines[0].sku: the value does not match "^[A-Z]+$"'),
        ({"amount": 1, "email": "nobody"}, 'event_data.email: the value is not a "email"'),
    ],
    ids=["fits", "missing", "type", "multiple", "within a reference", "pattern", "format"],
)
def test_a_fault_is_named_by_its_place(value: Any, said: str | None) -> None:
    assert fault(ORDER, value) == said


def test_what_is_said_repeats_no_value_and_is_short() -> None:
    schema = {
        "properties": {
            "text": {"maxLength": 3},
            "any": {"anyOf": [{"const": 1}, {"const": 2}]},
            "list": {"uniqueItems": True},
        }
    }
    secret = "4111-1111-1111-1111"
    for value in ({"text": secret}, {"any": [secret]}, {"list": [secret, secret]}):
        said = fault(schema, value)
        assert said is not None
        assert secret not in said

    names = fault({"additionalProperties": False, "properties": {"a": True}}, {"x" * 5_000: 1})
    deep = fault({"additionalProperties": {"type": "number"}}, {"y" * 5_000: "no"})
    assert names is not None
    assert deep is not None
    assert max(len(names), len(deep)) < 500


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ([], "spec"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "spec.$schema"),
        ({"properties": {"a": {"type": "strng"}}}, "spec.properties.a.type"),
        ({"properties": {"a": {"requird": ["b"]}}}, "spec.properties.a.requird"),
        ({"properties": {"a": {"format": "phone"}}}, "spec.properties.a.format"),
        ({"properties": {"a": {"pattern": "(?=a)b"}}}, "spec.properties.a.pattern"),
        ({"patternProperties": {"(a)\\1": True}}, "spec.patternProperties"),
        ({"pattern": "((a{1,1000}){1,1000}){1,1000}"}, "spec.pattern"),
        ({"pattern": "a" * 501}, "spec.pattern"),
        ({"$ref": "http://169.254.169.254/latest"}, "spec.$ref"),
        ({"$ref": "file:///etc/passwd"}, "spec.$ref"),
        ({"$ref": "other.json"}, "spec.$ref"),
        ({"$ref": "#/$defs/none"}, "spec.$ref"),
        ({"properties": {"child": {"$ref": "#"}}}, "spec.properties.child.$ref"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "spec.$ref"),
        ({"properties": {"a": {"$id": "https://example.com/other"}}}, "spec.properties.a.$id"),
        ({"$dynamicRef": "#a"}, "spec.$dynamicRef"),
    ],
    ids=str,
)
def test_a_schema_that_cannot_be_used_is_refused_with_the_place(schema: Any, place: str) -> None:
    with pytest.raises(DefinitionError) as refusal:
        compiled(schema, "spec")
    assert refusal.value.place.startswith(place)


def _doubling(times: int) -> dict[str, Any]:
    """Every definition refers to the one before twice."""
    definitions: dict[str, Any] = {"d0": {"type": "number"}}
    for n in range(times):
        definitions[f"d{n + 1}"] = {"anyOf": [{"$ref": f"#/$defs/d{n}"}, {"$ref": f"#/$defs/d{n}"}]}
    return {"$defs": definitions, "properties": {"a": {"$ref": f"#/$defs/d{times}"}}}


def _nested(times: int) -> dict[str, Any]:
    """Each `unevaluatedProperties` looks once more at all that the one within has looked at."""
    schema: dict[str, Any] = {"unevaluatedProperties": False}
    for _ in range(times):
        schema = {"allOf": [schema], "unevaluatedProperties": False}
    return schema


@pytest.mark.parametrize(
    "schema",
    [_doubling(60), _nested(25), {"enum": list(range(MAX_PARTS))}, {"$ref": "#/$defs/a" + "/x" * 5_000}],
    ids=["references that double", "unevaluated within unevaluated", "many values", "a long way"],
)
def test_a_schema_whose_cost_grows_without_bound_is_refused_soon(schema: dict[str, Any]) -> None:
    began = time.perf_counter()
    with pytest.raises(DefinitionError):
        compiled(schema, "spec")
    assert time.perf_counter() - began < 2


_HOSTILE: dict[str, tuple[dict[str, Any], Any]] = {
    "integers that hash alike": ({"uniqueItems": True}, [2**63 + n for n in range(13_000)]),
    "objects of such": ({"uniqueItems": True}, [{"a": 2**63 + n} for n in range(9_000)]),
    "huge numbers to divide": ({"items": {"multipleOf": 0.01}}, [1.1e300] * 30_000),
    "a failure of each item in each alternative": (
        {"anyOf": [{"items": {"type": "number"}}, {"items": {"type": "boolean"}}]},
        ["y"] * 60_000,
    ),
    "many alternatives": ({"items": {"anyOf": [{"const": f"c{n}"} for n in range(1_000)]}}, ["y"] * 60_000),
    "many conditions": (
        {"items": {"dependentRequired": {f"d{n}": ["x"] for n in range(2_000)}}},
        [dict[str, int]()] * 80_000,
    ),
    "many patterns": (
        {"patternProperties": {f"^p{n}[a-z]+$": True for n in range(500)}},
        {f"p{n}": 1 for n in range(20_000)},
    ),
    "the same from many sides": (
        {"allOf": [{"items": {"minimum": -n}} for n in range(500)]},
        [1] * 100_000,
    ),
    "a pattern that backtracks elsewhere": ({"pattern": "^(x+x+)+y$"}, "x" * 250_000),
    "a pattern that may be at many places at once": ({"pattern": "[ab]*a[ab]{2000}c"}, "ab" * 125_000),
    "many keywords of ours": ({"items": {"allOf": [{"multipleOf": 0.01}] * 20}}, [1] * 80_000),
    "deep doubles": (_doubling(10), {"a": "no number"}),
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_no_event_takes_long_to_judge(name: str) -> None:
    """A tenth of a second each on a machine with nothing else to do."""
    schema, value = _HOSTILE[name]
    ready = compiled(schema, "spec")
    began = time.perf_counter()
    ready.fault(value, "event_data")
    assert time.perf_counter() - began < 3


def test_what_is_not_compared_for_its_size_does_not_fit() -> None:
    wide = {"items": {"enum": list(range(5_000))}}
    assert fault(wide, [1] * 100) is None
    assert fault(wide, [1] * 100_000) == "event_data is too large to be compared with a schema of this size"


@pytest.mark.parametrize(("pattern", "most"), [("^a[0-9]{3}$", 500), ("^.{1,100}$", 100)])
def test_patterns_that_take_seconds_to_make_ready_are_refused(pattern: str, most: int) -> None:
    schema = {"properties": {f"f{n}": {"pattern": pattern} for n in range(most + 1)}}
    with pytest.raises(DefinitionError, match="one pattern too many"):
        compiled(schema, "spec")

    schema["properties"].popitem()
    assert compiled(schema, "spec").fault({}, "event_data") is None


def test_a_reference_to_a_place_of_any_number_leads_nowhere() -> None:
    with pytest.raises(DefinitionError, match="leads nowhere"):
        compiled({"allOf": [True], "$ref": "#/allOf/" + "9" * 5_000}, "spec")


def test_an_ordinary_schema_takes_the_largest_event_there_is() -> None:
    schema = {"properties": {f"field{n}": {"type": "string"} for n in range(10)}}
    assert fault(schema, {"field1": "x" * MAX_EVENT_BYTES}) is None


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -0.0, 2.0**64, "a", "b", ""]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from("abc"), children, max_size=3),
    max_leaves=8,
)
_LEAVES = st.sampled_from(
    [
        True,
        False,
        {"type": "integer"},
        {"type": ["string", "null"]},
        {"minimum": 1},
        {"multipleOf": 0.5},
        {"uniqueItems": True},
        {"enum": [1, "a", None]},
        {"const": [1]},
        {"required": ["a"]},
        {"$ref": "#/$defs/shared"},
        {"type": "object", "$ref": "#/$defs/shared"},
    ]
)
_SCHEMAS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2)}),
        st.fixed_dictionaries({"items": inner}),
        st.fixed_dictionaries({"prefixItems": st.lists(inner, min_size=1, max_size=2), "unevaluatedItems": inner}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=2), "unevaluatedProperties": inner}),
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"if": inner, "then": inner, "else": inner}),
        st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2), "$ref": st.just("#/$defs/shared")}),
    ),
    max_leaves=4,
)


@given(_SCHEMAS, _VALUES)
def test_what_fits_is_what_the_reference_implementation_says_fits(inner: Any, value: Any) -> None:
    """References are written out, and some keywords are our own: neither may change what a schema means."""
    schema = {
        "properties": {"value": inner},
        "$defs": {"shared": {"properties": {"a": {"type": "integer"}}, "minItems": 1}},
    }
    expected = Draft202012Validator(schema).is_valid({"value": value})
    assert (fault(schema, {"value": value}) is None) == expected


def test_equal_items_are_found_whatever_they_are() -> None:
    chance = random.Random(1)
    pairs: list[list[Any]] = [[1, 1.0], [{"a": 1, "b": 2}, {"b": 2.0, "a": 1}], [[], []], [None, None], ["a", "a"]]
    for same in pairs:
        others: list[Any] = [True, 0, "1", {"a": True}, [1]]
        items = [*others, *same]
        chance.shuffle(items)
        assert (
            fault({"properties": {"l": {"uniqueItems": True}}}, {"l": items})
            == "event_data.l: has items that are equal"
        )
        assert fault({"properties": {"l": {"uniqueItems": True}}}, {"l": [*others, same[0]]}) is None

"""From somebody else's message to an event's body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.normalise import EventBody, Reason, Rejected
from services.ingest.domain.sources.mapping import parse_mapping
from shared.definition_error import DefinitionError

MESSAGE = {
    "kind": "order",
    "at": 1_767_323_045.678,
    "customer": {"id": 42, "mail": None},
    "total": "99.5",
    "paid": "TRUE",
    "lines": [{"sku": "a", "n": 2}, {"sku": "b", "n": 1}],
}


def mapped(spec: dict[str, Any], message: object = MESSAGE) -> EventBody | Rejected:
    raw = message if isinstance(message, bytes) else json.dumps(message).encode()
    return parse_mapping(spec).body(raw, event_id="made-up", source_id=7)


def event(spec: dict[str, Any], message: object = MESSAGE) -> EventBody:
    body = mapped({"event_type": "kind", **spec}, message)
    assert isinstance(body, EventBody), body
    return body


def rejected(spec: dict[str, Any], message: object = MESSAGE) -> Rejected:
    body = mapped({"event_type": "kind", **spec}, message)
    assert isinstance(body, Rejected), body
    return body


def test_expressions_constants_and_defaults_fill_the_event() -> None:
    body = event(
        {
            "user_id": "customer.id",
            "session_id": {"path": "session", "default": "none"},
            "event_data": {
                "units": "sum(lines[].n)",
                "skus": "lines[].sku",
                "currency": {"value": "EUR"},
                "mail": "customer.mail",
            },
            "context": {"source": {"value": "shop"}},
        }
    )
    assert (body.event_type, body.user_id, body.session_id) == ("order", 42, "none")
    assert body.event_data == {"units": 3, "skus": ["a", "b"], "currency": "EUR"}
    assert body.context == {"source": "shop"}
    assert (body.event_id, body.data_source_id) == ("made-up", 7)


def test_an_id_of_the_message_is_kept() -> None:
    assert event({"event_id": "join('-', [kind, to_string(customer.id)])"}).event_id == "order-42"


def test_properties_is_another_name_for_event_data() -> None:
    assert event({"properties": "customer"}).event_data == {"id": 42, "mail": None}


def test_without_a_mapping_the_message_is_an_event_of_ours() -> None:
    body = mapped({}, {"event_type": "a", "event_id": "own", "data_source_id": 3})
    assert isinstance(body, EventBody)
    assert (body.event_id, body.data_source_id) == ("own", 7)
    assert isinstance(mapped({}, b"{"), Rejected)


@pytest.mark.parametrize(
    ("type", "found", "expected"),
    [
        ("number", "99.5", 99.5),
        ("number", "-7", -7),
        ("integer", "18446744073709551615", 2**64 - 1),
        ("integer", 3.0, 3),
        ("string", 12, "12"),
        ("string", 0.5, "0.5"),
        ("string", True, "true"),
        ("boolean", "TRUE", True),
        ("boolean", 0, False),
    ],
)
def test_values_are_cast(type: str, found: object, expected: object) -> None:
    assert event({"event_data": {"x": {"path": "x", "type": type}}}, {"kind": "a", "x": found}).event_data == {
        "x": expected
    }


@pytest.mark.parametrize(
    ("type", "found"),
    [
        ("number", "many"),
        ("number", "1e999"),
        ("number", True),
        ("integer", 1.5),
        ("integer", "18446744073709551616"),
        ("integer", "1" * 5_000),
        ("string", [1]),
        ("boolean", "yes"),
        ("boolean", 2),
    ],
)
def test_a_value_that_cannot_be_cast_names_the_expression(type: str, found: object) -> None:
    verdict = rejected({"event_data": {"x": {"path": "deep.x", "type": type}}}, {"kind": "a", "deep": {"x": found}})
    assert verdict.reason is Reason.MAPPING
    assert verdict.detail.startswith("mapping.event_data.x: `deep.x` gives ")


@pytest.mark.parametrize(
    ("format", "found", "expected"),
    [
        ("unix_s", 1_767_323_045.678, "2026-01-02T03:04:05.678000Z"),
        ("unix_s", "1767323045", "2026-01-02T03:04:05Z"),
        ("unix_ms", 1_767_323_045_678, "2026-01-02T03:04:05.678000Z"),
        ("unix_us", 1_767_323_045_678_901, "2026-01-02T03:04:05.678901Z"),
        ("iso", "2026-01-02T04:04:05+01:00", "2026-01-02T04:04:05+01:00"),
    ],
)
def test_times_are_read_as_their_format_says(format: str, found: object, expected: str) -> None:
    body = event({"event_timestamp": {"path": "at", "format": format}}, {"kind": "a", "at": found})
    assert body.event_timestamp == expected


@pytest.mark.parametrize(
    ("format", "found"),
    [("unix_s", "now"), ("unix_ms", -1), ("unix_us", 1e300), ("unix_s", True), ("iso", 5), ("unix_s", {"a": 1})],
)
def test_a_time_that_is_none_is_rejected(format: str, found: object) -> None:
    verdict = rejected({"event_timestamp": {"path": "at", "format": format}}, {"kind": "a", "at": found})
    assert verdict.reason is Reason.MAPPING


@pytest.mark.parametrize(
    ("spec", "detail"),
    [
        ({"event_type": "missing"}, "mapping.event_type: `missing` gives null, and there is no default"),
        ({"event_type": "customer"}, "mapping.event_type: `customer` gives no text"),
        ({"user_id": {"path": "nobody", "required": True}}, "mapping.user_id: `nobody` gives null"),
        ({"event_data": "lines"}, "mapping.event_data: `lines` gives no object"),
        ({"event_data": {"n": "sum(kind)"}}, "mapping.event_data.n: `sum(kind)`: In function sum()"),
        ({"event_data": {"n": "&kind"}}, "mapping: gives something that is no JSON"),
    ],
)
def test_what_the_message_does_not_give_is_named(spec: dict[str, Any], detail: str) -> None:
    verdict = rejected(spec)
    assert (verdict.reason, verdict.detail[: len(detail)]) == (Reason.MAPPING, detail)


def test_an_expression_that_multiplies_without_end_is_cut_short() -> None:
    assert rejected({"event_data": {"x": "|".join(["[@,@]"] * 200)}}).reason is Reason.MAPPING


def test_what_json_may_not_hold_is_refused_wherever_it_comes_from() -> None:
    assert rejected({"user_id": r'`"a\u0000b"`'}).reason is Reason.NUL
    assert rejected({}, b'{"kind":"a","x":1e999}').reason is Reason.NON_FINITE
    assert rejected({}, b'{"kind":"' + b"x" * 300_000 + b'"}').reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"event_type": "a["}, "mapping.event_type"),
        ({"event_type": {"path": "a b"}}, "mapping.event_type.path"),
        ({"event_type": {"path": "a", "value": 1}}, "mapping.event_type"),
        ({"event_type": {}}, "mapping.event_type"),
        ({"event_type": {"value": None}}, "mapping.event_type.value"),
        ({"event_type": 5}, "mapping.event_type"),
        ({"user_id": "a"}, "mapping.event_type"),
        ({"event_type": "a", "colour": "b"}, "mapping.colour"),
        ({"event_type": "a", "event_data": "b", "properties": "c"}, "mapping.properties"),
        ({"event_type": "a", "user_id": {"path": "b", "type": "text"}}, "mapping.user_id.type"),
        ({"event_type": "a", "user_id": {"path": "b", "format": "unix_s"}}, "mapping.user_id.format"),
        ({"event_type": "a", "event_timestamp": {"path": "b", "format": "unix"}}, "mapping.event_timestamp.format"),
        ({"event_type": "a", "event_data": {"x": {"pth": "b"}}}, "mapping.event_data.x.pth"),
        ({"event_type": "nope(@"}, "mapping.event_type"),
        ({"event_type": "(" * 900}, "mapping.event_type"),
        ([], "mapping"),
    ],
)
def test_a_wrong_mapping_is_refused_at_the_fault(spec: Any, place: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse_mapping(spec)
    assert refused.value.place == place


@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(repr)
)
def test_no_message_makes_a_mapping_raise(message: bytes | str) -> None:
    raw = message if isinstance(message, bytes) else message.encode("utf-8", "surrogatepass")
    spec = {"event_type": {"path": "[0]", "default": "x"}, "event_data": {"n": "length(@)"}, "user_id": "a.b[?c>`1`]"}
    assert isinstance(mapped(spec, raw), EventBody | Rejected)

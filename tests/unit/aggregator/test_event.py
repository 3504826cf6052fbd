"""Records as hostile as they come: each gives an event or a reason, none an exception."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.aggregator.domain.event import (
    EARLIEST,
    MAX_AHEAD,
    MAX_DEPTH,
    DecodedEvent,
    Unreadable,
    decode_event,
    reader_of,
)
from services.aggregator.domain.projection import EVERYTHING, Projection
from services.aggregator.domain.values import INVALID
from tests.unit.aggregator.builders import NOW, bounded, event


def raw(**fields: Any) -> bytes:
    return json.dumps(event(**fields)).encode()


def with_property(text: str | bytes) -> bytes:
    """An otherwise sound event whose property is this text, uninterpreted."""
    text = text.encode() if isinstance(text, str) else text
    return raw(properties={"v": "HERE"}).replace(b'"HERE"', text)


def without(name: str) -> bytes:
    fields = event()
    del fields[name]
    return json.dumps(fields).encode()


HOSTILE: dict[str, tuple[bytes | None, Unreadable]] = {
    "no value": (None, Unreadable.EMPTY),
    "empty": (b"", Unreadable.EMPTY),
    "blank": (b"  \n", Unreadable.MALFORMED),
    "not JSON": (b"hello", Unreadable.MALFORMED),
    "cut short": (raw()[:-1], Unreadable.MALFORMED),
    "two documents": (raw() + raw(), Unreadable.MALFORMED),
    "two lines": (raw() + b"\n" + raw(), Unreadable.MALFORMED),
    "byte order mark": (b"\xef\xbb\xbf" + raw(), Unreadable.MALFORMED),
    "UTF-16": (raw().decode().encode("utf-16"), Unreadable.MALFORMED),
    "invalid UTF-8": (with_property(b'"\xff"'), Unreadable.MALFORMED),
    "surrogate in UTF-8": (with_property(b'"\xed\xa0\x80"'), Unreadable.MALFORMED),
    "invalid UTF-8 in an id": (raw(user_id="HERE").replace(b"HERE", b"\xc3\x28"), Unreadable.MALFORMED),
    "raw control character": (with_property('"\x01"'), Unreadable.MALFORMED),
    "NaN": (with_property("NaN"), Unreadable.MALFORMED),
    "Infinity": (with_property("-Infinity"), Unreadable.MALFORMED),
    "5000 digits in time": (raw(time="T").replace(b'"T"', b"9" * 5000), Unreadable.SCHEMA),
    "100,000 lists deep": (with_property("[" * 100_000 + "]" * 100_000), Unreadable.DEPTH),
    "100,000 objects deep": (with_property('{"a":' * 100_000 + "1" + "}" * 100_000), Unreadable.DEPTH),
    "deep and unclosed": (b"[" * 100_000, Unreadable.SCHEMA),
    "2^70 in time": (raw(time=2**70), Unreadable.SCHEMA),
    "negative time": (raw(time=-1), Unreadable.SCHEMA),
    "time as a float": (raw(time=1.7e15), Unreadable.SCHEMA),
    "time as text": (raw(time="2025-10-09T00:00:00Z"), Unreadable.SCHEMA),
    "time as null": (raw(time=None), Unreadable.SCHEMA),
    "time in milliseconds": (raw(time=NOW // 1000), Unreadable.SCHEMA),
    "before 2000": (raw(time=EARLIEST - 1), Unreadable.SCHEMA),
    "after 3000": (raw(time=40_000_000_000_000_000), Unreadable.SCHEMA),
    "more than 24 h ahead": (raw(time=NOW + MAX_AHEAD + 1), Unreadable.AHEAD),
    "NUL in the organisation": (raw(organisation="ac\x00me"), Unreadable.NUL),
    "empty organisation": (raw(organisation=""), Unreadable.SCHEMA),
    "empty event id": (raw(event_id=""), Unreadable.SCHEMA),
    "endless event id": (raw(event_id="x" * 1001), Unreadable.SCHEMA),
    "a number as event type": (raw(event_type=5), Unreadable.SCHEMA),
    "a number as user id": (raw(user_id=5), Unreadable.SCHEMA),
    "a list of properties": (raw(properties=[1]), Unreadable.SCHEMA),
    "text as context": (raw(context="x"), Unreadable.SCHEMA),
    "a list": (b"[" + raw() + b"]", Unreadable.SCHEMA),
    "null": (b"null", Unreadable.SCHEMA),
    "a number": (b"1", Unreadable.SCHEMA),
    **{
        f"no {name}": (without(name), Unreadable.SCHEMA)
        for name in ("organisation", "event_id", "event_type", "time")
    },
}


@pytest.mark.parametrize(("value", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_record_without_an_event_gives_its_reason(value: bytes | None, reason: Unreadable) -> None:
    found = decode_event(value, NOW)
    assert isinstance(found, tuple)
    assert found[0] is reason
    assert found[1], "the detail says what is wrong"


UNREADABLE = {
    "lone high surrogate": '"\\ud800"',
    "lone low surrogate": '"a\\udc00b"',
    "two high surrogates": '"\\ud800\\ud800\\udc00"',
    "lone surrogate as a name": '{"\\ud800": 1}',
    "lone surrogate deep within": '{"a": [1, {"b": "\\uDFFF"}]}',
    "1e400": "1e400",
    "-1e0400": "[-1e0400]",
    "5000 digits": "9" * 5000,
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_property_that_cannot_be_read_spoils_only_itself(text: str) -> None:
    value = raw(properties={"v": "HERE", "w": "\ufdd0 ü \\ud800"}, context={"c": 1}).replace(b'"HERE"', text.encode())
    found = decode_event(value, NOW)
    assert isinstance(found, DecodedEvent)
    assert found.properties["v"] is INVALID
    assert found.properties["w"] == "\ufdd0 ü \\ud800" or "sur" in text or "ud" in text.lower()
    assert found.context == {"c": 1}


def test_half_a_surrogate_pair_in_an_id_leaves_no_event() -> None:
    found = decode_event(raw(user_id="HERE").replace(b"HERE", b"\\ud800"), NOW)
    assert isinstance(found, tuple)
    assert found[0] is Unreadable.MALFORMED


TEXTS = [*UNREADABLE.values(), "1", "null", '"x"', '"\\u0061"', "[[1]]", '{"a": {"v": 1}}', "01", "tru"]
TEXTS += ["[" * 70 + "]" * 70]
NAMES = ["v", "w", "a.b", "\\u0076", "\\ud800", "ü", ""]
trees = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(TEXTS)), max_size=4).map(
    lambda tree: "".join(("{", ",".join(f'"{name}":{text}' for name, text in tree), "}"))
)


@settings(bounded, max_examples=300)
@given(
    trees,
    trees,
    st.sampled_from(["u", "u", "u", "\\ud800", "\\u0000"]),
    st.sampled_from([b"", b"", b"", b"\xff", b" ", b"}"]),
    st.frozensets(st.sampled_from(["v", "w", "a.b", "ü", 'q"', "\n"]), max_size=3),
)
def test_what_is_read_of_an_event_decides_neither_whether_there_is_one_nor_what_it_holds(
    properties: str, context: str, user: str, end: bytes, wanted: frozenset[str]
) -> None:
    head = raw(user_id="HERE").decode()[:-1].replace("HERE", user)
    value = "".join((head, ',"properties":', properties, ',"context":', context, "}")).encode() + end
    whole, refused = reader_of(EVERYTHING).read([value])
    part, also_refused = reader_of(Projection(wanted, frozenset())).read([value])
    among_others, _ = reader_of(Projection(wanted, wanted)).read([raw(), value, raw(event_id="e3")])
    assert refused == also_refused
    assert len(among_others) == 2 + len(whole)
    for all_of_it, some_of_it in zip(whole, part, strict=True):
        for name in wanted:
            assert some_of_it.properties.get(name) == all_of_it.properties.get(name)


@bounded
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 200))
def test_bytes_at_random_never_raise(noise: bytes, start: int, stop: int) -> None:
    sound = raw(properties={"a": [1, 2.5, "ü"]})
    for value in (noise, sound[:start] + noise + sound[stop:]):
        found = decode_event(value, NOW)
        assert isinstance(found, DecodedEvent) or isinstance(found[0], Unreadable)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1180591620717411303424", 2**70),
        ("1e308", 1e308),
        ('"\\u0000"', "\x00"),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ("[[[]]]", [[[]]]),
        ("null", None),
    ],
)
def test_odd_values_within_properties_spoil_nothing(text: str, expected: Any) -> None:
    found = decode_event(with_property(text), NOW)
    assert isinstance(found, DecodedEvent)
    assert found.properties == {"v": expected}


def test_a_record_nested_deeper_than_anybody_could_show_is_a_dead_letter() -> None:
    allowed, deep = ("[" * n + "]" * n for n in (MAX_DEPTH - 1, MAX_DEPTH))
    assert isinstance(decode_event(with_property(allowed), NOW), DecodedEvent)
    assert decode_event(with_property(deep), NOW) == (Unreadable.DEPTH, "nested deeper than 64")
    assert isinstance(decode_event(with_property("[" + "[]," * 500 + "{}]"), NOW), DecodedEvent)


def test_an_organisation_is_short_enough_for_a_primary_key() -> None:
    assert isinstance(decode_event(raw(organisation="\U0001f600" * 200), NOW), DecodedEvent)
    found = decode_event(raw(organisation="x" * 201), NOW)
    assert isinstance(found, tuple)
    assert found[0] is Unreadable.SCHEMA


@pytest.mark.parametrize("time", [EARLIEST, NOW, NOW + MAX_AHEAD])
def test_the_bounds_of_time_are_inclusive(time: int) -> None:
    found = decode_event(raw(time=time), NOW)
    assert isinstance(found, DecodedEvent)
    assert found.time == time


def test_fields_that_nobody_knows_are_ignored() -> None:
    found = decode_event(raw(added_later={"x": 1}, user_id="u"), NOW)
    assert isinstance(found, DecodedEvent)
    assert (found.user_id, found.session_id, found.data_source_id, found.context) == ("u", None, 1, {})

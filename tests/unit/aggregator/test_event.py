"""Records as hostile as they come: each gives an event or a reason, none an exception."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.domain.event import EARLIEST, MAX_AHEAD, MAX_DEPTH, DecodedEvent, Unreadable, decode_event
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
    "lone high surrogate": (with_property('"\\ud800"'), Unreadable.MALFORMED),
    "lone low surrogate": (with_property('"\\udc00"'), Unreadable.MALFORMED),
    "lone surrogate as a name": (with_property('{"\\ud800": 1}'), Unreadable.MALFORMED),
    "raw control character": (with_property('"\x01"'), Unreadable.MALFORMED),
    "NaN": (with_property("NaN"), Unreadable.MALFORMED),
    "Infinity": (with_property("-Infinity"), Unreadable.MALFORMED),
    "1e400": (with_property("1e400"), Unreadable.SCHEMA),
    "5000 digits": (with_property("9" * 5000), Unreadable.SCHEMA),
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

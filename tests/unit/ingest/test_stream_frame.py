"""What clients say over a socket, taken apart: nothing raises, and one hostile event spoils only itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.stream_frame import (
    MAX_MESSAGE_EVENTS,
    MAX_SEQ,
    Events,
    FrameFault,
    Hello,
    NoFrame,
    Ping,
    context_from,
    read_frame,
)


def test_a_single_event_is_handed_on_as_it_came() -> None:
    raw = b'{"seq": 7, "event_type":"a", "events_of":1}'
    assert read_frame(raw) == Events(7, [raw])


def test_several_events_are_handed_on_each_by_itself() -> None:
    raw = b'{"seq":8,"events":[{"event_type":"a"}, 5 ,{"event_type":"b"}]}'
    assert read_frame(raw) == Events(8, [b'{"event_type":"a"}', b"5", b'{"event_type":"b"}'])


def test_a_message_needs_no_number() -> None:
    assert read_frame(b'{"event_type":"a"}') == Events(None, [b'{"event_type":"a"}'])
    assert read_frame(b'{"seq":null,"events":[1]}') == Events(None, [b"1"])


@pytest.mark.parametrize("seq", [b"-1", b"1.5", b'"7"', b"true", b"[]", b"1e999", b"%d" % (MAX_SEQ + 1)])
def test_a_number_that_is_none_is_refused(seq: bytes) -> None:
    found = read_frame(b'{"seq":' + seq + b',"event_type":"a"}')
    assert isinstance(found, NoFrame)
    assert found.fault is FrameFault.SEQ


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        (b"[]", FrameFault.EMPTY),
        (b"{}", FrameFault.SCHEMA),
        (b"[" + b"1," * MAX_MESSAGE_EVENTS + b"1]", FrameFault.TOO_LONG),
    ],
)
def test_what_is_no_list_of_events_is_refused_by_its_number(events: bytes, fault: FrameFault) -> None:
    found = read_frame(b'{"seq":3,"events":' + events + b"}")
    assert isinstance(found, NoFrame)
    assert (found.seq, found.fault) == (3, fault)


def test_events_that_a_parser_refuses_leave_the_others_readable() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    assert read_frame(b'{"events":[' + deep + b',{"event_type":"a"}]}') == Events(None, [deep, b'{"event_type":"a"}'])


@pytest.mark.parametrize(("nonce", "read"), [(b'"x"', "x"), (b"5", 5), (b"null", None)])
def test_a_ping_keeps_its_nonce(nonce: bytes, read: str | int | None) -> None:
    assert read_frame(b'{"type":"ping","nonce":' + nonce + b"}") == Ping(read)
    assert read_frame(b'{"type":"ping"}') == Ping(None)


@pytest.mark.parametrize("nonce", [b"[]", b"1.5", b"true", b'"' + b"x" * 201 + b'"'])
def test_a_ping_with_another_nonce_is_refused(nonce: bytes) -> None:
    found = read_frame(b'{"type":"ping","nonce":' + nonce + b"}")
    assert isinstance(found, NoFrame)
    assert found.fault is FrameFault.NONCE


def test_a_hello_brings_key_and_context_and_does_not_show_the_key() -> None:
    found = read_frame(b'{"type":"hello","key":"tg_secret","context":{"appVersion":"3.1","else":"x","osVersion":5}}')
    assert found == Hello("tg_secret", {"appVersion": "3.1"})
    assert "secret" not in repr(found)


def test_an_event_may_have_a_type_of_its_own() -> None:
    raw = b'{"type":"ping","event_type":"a"}'
    assert read_frame(raw) == Events(None, [raw])


def test_context_is_cut_and_never_invalid() -> None:
    assert context_from({"deviceModel": "x" * 600, "networkType": " \x00 ", "userAgent": "a\x00b"}) == {
        "deviceModel": "x" * 512,
        "userAgent": "ab",
    }


@given(st.one_of(st.binary(max_size=60), st.from_regex(rb'\{"(seq|type|events|nonce|key|context)":.{0,30}\}?')))
def test_no_bytes_raise(raw: bytes) -> None:
    assert read_frame(raw) is not None

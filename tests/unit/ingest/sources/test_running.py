"""Shares, pauses, ids, streams and lists: the small decisions of running sources."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.sources.backoff import LONGEST, delay
from services.ingest.domain.sources.event_stream import MAX_EVENT, EventStream, EventTooLargeError, ServerSentEvent
from services.ingest.domain.sources.health import Health, State, health_of, shown
from services.ingest.domain.sources.identity import event_id_of
from services.ingest.domain.sources.seen import MAX_SEEN, Seen
from services.ingest.domain.sources.sharing import Share, fair_share


def test_a_process_alone_takes_everything_and_two_take_half() -> None:
    assert fair_share({1, 2, 3}, {}, 1) == Share((), 3)
    assert fair_share({1, 2, 3}, {1, 2, 3}, 2) == Share((3,), 0)
    assert fair_share({1, 2, 3, 4}, {1}, 2) == Share((), 1)


def test_what_nobody_wants_is_let_go_of() -> None:
    assert fair_share({1}, {1, 9}, 1) == Share((9,), 0)
    assert fair_share(set(), {4}, 3) == Share((4,), 0)


@given(st.integers(0, 40), st.integers(1, 9))
def test_shares_are_enough_for_everything_and_settle(wanted: int, processes: int) -> None:
    sources = set(range(wanted))
    assert fair_share(sources, (), processes).room * processes >= wanted
    mine = set(sorted(sources)[: fair_share(sources, (), processes).room])
    assert fair_share(sources, mine, processes) == Share((), 0)


def test_pauses_double_up_to_a_minute_and_are_spread() -> None:
    assert [delay(n, 1.0) for n in (1, 2, 3, 4)] == [0.5, 1, 2, 4]
    assert delay(1, 0.0) == 0.25
    assert delay(1_000_000, 1.0) == LONGEST
    assert delay(1, 1.0, asked=30) == 30
    assert delay(1, 1.0, asked=1e9) == 3_600


def test_ids_depend_on_every_part_and_on_where_it_ends() -> None:
    ids = {
        event_id_of("a", "t", 1, 23),
        event_id_of("a", "t", 12, 3),
        event_id_of("b", "t", 1, 23),
        event_id_of("a", "t1", 23),
        event_id_of("a", b"\xff"),
    }
    assert len(ids) == 5
    assert event_id_of("a", "t", 1, 23) == event_id_of("a", "t", 1, 23)


def test_a_stream_of_events_is_read_as_the_standard_says() -> None:
    stream = EventStream()
    text = "\ufeff: hi\nretry: 1500\n\nid: 1\nevent: x\ndata: a\ndata:b\n\ndata\n\nid: 2\n\ndata: c\r\n\r\ndata: cut"
    assert stream.feed(text.encode()) == [
        ServerSentEvent("a\nb", "1"),
        ServerSentEvent("", None),
        ServerSentEvent("c", None),
    ]
    assert stream.retry == 1.5
    assert stream.feed(b" off\n\n") == [ServerSentEvent("cut off", None)]


@given(st.data())
def test_however_a_stream_is_cut_its_events_are_the_same(data: st.DataObject) -> None:
    raw = "id: 1\r\ndata: ä\r\n\r\nid: 2\rdata: b\r\rdata: c\n\n".encode()
    stream, found = EventStream(), list[ServerSentEvent]()
    while raw:
        cut = data.draw(st.integers(1, len(raw)))
        found += stream.feed(raw[:cut])
        raw = raw[cut:]
    assert found == [ServerSentEvent("ä", "1"), ServerSentEvent("b", "2"), ServerSentEvent("c", None)]


@pytest.mark.parametrize("chunk", [b"data: " + b"x" * MAX_EVENT * 2, b"data: x\n" * MAX_EVENT])
def test_an_event_that_does_not_end_is_given_up(chunk: bytes) -> None:
    with pytest.raises(EventTooLargeError):
        EventStream().feed(chunk)


def test_what_was_seen_is_known_until_it_has_long_gone() -> None:
    seen = Seen(["old"])
    seen.meet([str(n) for n in range(MAX_SEEN - 1)])
    assert "old" in seen
    seen.meet(["old"])
    seen.meet(["new"])
    assert "old" in seen
    assert "0" not in seen
    assert len(Seen(seen.all()).all()) == MAX_SEEN


def test_health_goes_on_with_what_the_last_holder_stored() -> None:
    health = Health()
    health.works()
    health.took(3, 1, 1_000_000)
    health.failed("gone " + "x" * 9_000, 2_000_000)
    again = health_of(health.as_json())
    assert again == health
    again.works()
    answer = shown(again, State.RUNNING)
    assert (answer["events"], answer["invalid"], answer["restarts"]) == (3, 1, 1)
    assert answer["last_event_at"] == "1970-01-01T00:00:01Z"
    assert len(answer["last_error"]) == 500
    assert again.failures == 0
    assert health_of({"events": "many"}) == Health()


@pytest.mark.parametrize("said", ["bad\x00reason", "\udcff", "two\nlines"])
def test_whatever_a_far_end_says_can_be_stored(said: str) -> None:
    health = Health()
    health.failed(f"HTTP 500 {said}", 1)
    assert health.last_error is not None
    assert health.last_error.isprintable()
    assert b"\\u0000" not in msgspec.json.encode(health.as_json())

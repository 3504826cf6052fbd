"""What is fast says the same as what is plain: reading whole batches, normalising, answering."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.ingest.domain.batch_body import NoBatch, events_of
from services.ingest.domain.kinds.catalogue import DEMANDS
from services.ingest.domain.normalise import EventBody, Reason, Rejected, normalised, read_event
from services.ingest.domain.normalise_many import all_normalised
from services.ingest.domain.verdict import all_accepted, verdict_of
from services.ingest.domain.whole_batch import bodies_of
from shared.clock import from_datetime
from shared.messages import Event
from tests.unit.ingest.plain_normalise import plainly_normalised

NOW = from_datetime(datetime(2026, 6, 1, 12, tzinfo=UTC))

_names = st.sampled_from(
    [
        "userId",
        "anonymousId",
        "sessionId",
        "jobId",
        "importJobId",
        "migrationJobId",
        "plan",
        "a\\b",
        "é",
        "[{",
        "\x7f",
    ]
)
_numbers = st.one_of(
    st.integers(-(2**65), 2**65), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([1e308, 10**18])
)
_texts = st.one_of(
    st.text(max_size=8), st.sampled_from(["", "\x00", "\ud800", "1234567890123456789", "x" * 257, "]}"])
)
_values = st.recursive(
    st.one_of(st.none(), st.booleans(), _numbers, _texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_names, inner, max_size=3)),
    max_leaves=8,
)
_ids = st.one_of(st.none(), _texts, _numbers, st.just("user-1"))


def _deep(depth: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(depth - 1):
        nested = [nested]
    return nested


_data = st.one_of(
    st.none(),
    st.dictionaries(_names, _values, max_size=4),
    st.builds(lambda depth: {"deep": _deep(depth)}, st.integers(55, 68)),
)


@st.composite
def _timestamps(draw: st.DrawFn) -> str:
    moment = draw(st.datetimes(datetime(1999, 12, 31), datetime(2026, 6, 3)))
    text = moment.isoformat(
        draw(st.sampled_from(["T", "t", " "])), draw(st.sampled_from(["seconds", "milliseconds"]))
    )
    text += draw(st.sampled_from(["", "1", "123", "٣"]))
    text += draw(st.sampled_from(["Z", "z", "", "+00:00", "-0330", "+24:00", "Z "]))
    if draw(st.booleans()):
        place = draw(st.integers(0, len(text) - 1))
        text = text[:place] + draw(st.sampled_from("0369-:. TWZ")) + text[place + 1 :]
    return text


_fields: dict[str, st.SearchStrategy[Any]] = {
    "event_data": _data,
    "event_timestamp": st.one_of(_timestamps(), st.none(), st.text(max_size=30)),
    "data_source_id": st.sampled_from([None, 1, 7]),
    "context": st.one_of(st.none(), st.dictionaries(_names, _values, max_size=2)),
    "something_else": _values,
    **dict.fromkeys(["event_id", "user_id", "anonymous_id", "session_id", "job_id"], _ids),
}
_types = st.one_of(st.sampled_from(["page_view", " ", "", "x" * 201]), st.text(max_size=5))
_events = st.fixed_dictionaries({"event_type": _types}, optional=_fields)


@st.composite
def _batches(draw: st.DrawFn) -> bytes:
    events = draw(st.lists(st.one_of(_events, _values), max_size=3))
    body = json.dumps({"events": events}, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if body and draw(st.booleans()):
        place = draw(st.integers(0, len(body) - 1))
        body = body[:place] + draw(st.binary(max_size=2)) + body[place + draw(st.integers(0, 2)) :]
    return body


@given(_batches())
@example(b'{"events":[{"event_type":"x","event_data":{"n":1e400}}]}')
@example(b'{"events":[{"event_type":"x"}],"events":[{"event_type":"y"}]}')
@example(b'{"events":[{"event_type":"x","ignored":"\xff"}]}')
@example(b'{"events":[{"event_type":"x","event_data":{"s":"\xed\xa0\x80"}}]}')
@example(b'{"events":[{"event_type":"x","event_data":{"a":1},"event_data":%s}]}' % (b"[" * 70 + b"]" * 70))
def test_a_batch_read_in_one_go_says_what_its_events_say_one_by_one(body: bytes) -> None:
    found = bodies_of(body)
    if found is not None:
        raws = events_of(body)
        assert not isinstance(raws, NoBatch)
        one_by_one = [read_event(raw) for raw in raws]
        assert not any(isinstance(one, Rejected) for one in one_by_one)
        assert found == one_by_one


@given(st.lists(st.integers(1, 66), min_size=1, max_size=4))
def test_an_event_that_is_too_deep_is_found_among_others(depths: list[int]) -> None:
    events = [{"event_type": "x", "event_data": {"deep": _deep(depth)}} for depth in depths]
    found = bodies_of(json.dumps({"events": events}).encode())
    assert (found is None) == any(2 + depth > 64 for depth in depths)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"events":[]}',
        b'{"events":[1]}',
        b'{"events":[{"event_type":"x"}',
        b'{"events":[{"event_type":"x"},{"event_data":{}}]}',
        b'{"events":[%s]}' % b",".join([b'{"event_type":"x"}'] * 10_001),
        b'{"events":[{"event_type":"x","event_data":{"s":"%s"}}]}' % (b"x" * 256 * 1024),
    ],
)
def test_a_batch_that_is_not_wholly_good_is_left_to_those_who_look_closer(body: bytes) -> None:
    assert bodies_of(body) is None


def test_a_plain_batch_is_read_in_one_go_though_it_has_many_nested_values() -> None:
    events = [{"event_type": "x", "event_data": {"list": [[n]], "text": "a \\ b"}} for n in range(500)]
    found = bodies_of(json.dumps({"events": events}).encode())
    assert found is not None
    assert [body.event_data for body in found] == [event["event_data"] for event in events]


@given(_events)
def test_the_fast_verdict_is_the_plain_verdict(event: dict[str, Any]) -> None:
    try:
        body = msgspec.convert(event, EventBody)
    except msgspec.ValidationError:
        return
    plain = plainly_normalised(body, "default", NOW, {"userAgent": "test"}, lambda: "made up")
    found = normalised(
        body, organisation="default", received_at=NOW, context={"userAgent": "test"}, new_id=lambda: "made up"
    )
    if isinstance(plain, Rejected):
        assert isinstance(found, Rejected)
        assert (found.reason, found.detail) == (plain.reason, plain.detail)
    else:
        assert found == plain


_MANY: dict[str, Any] = {"organisation": "default", "received_at": NOW, "context": {"userAgent": "test"}}
_kinds = st.sampled_from(sorted(DEMANDS))


@given(st.lists(st.one_of(_events, _events.flatmap(lambda e: _kinds.map(lambda kind: {**e, "event_type": kind})))))
@example([{"event_type": "x", "event_timestamp": "never"}])
@example(
    [{"event_type": "x", "event_timestamp": "1969-12-31T23:59:59.Z"}, {"event_type": "x", "event_timestamp": "Z"}]
)
@example([{"event_type": "x", "event_data": {"jobId": "", "importJobId": "j"}}, {"event_type": "x", "user_id": ""}])
@example([{"event_type": "x", "event_data": {"jobId": 0, "importJobId": "j"}}, {"event_type": "x", "user_id": 7}])
@example([{"event_type": "x", "event_timestamp": "1999-12-31T23:59:59Z"}, {"event_type": "click"}])
def test_the_verdicts_on_many_are_those_on_each(events: list[dict[str, Any]]) -> None:
    bodies: list[EventBody | Rejected] = [Rejected(Reason.MALFORMED, "no JSON")]
    for event in events:
        with suppress(msgspec.ValidationError):
            bodies.append(msgspec.convert(event, EventBody))
    one_by_one = [
        body if isinstance(body, Rejected) else normalised(body, **_MANY, new_id=lambda: "made up") for body in bodies
    ]
    assert all_normalised(bodies, **_MANY, new_id=lambda: "made up") == one_by_one


@given(st.datetimes(datetime(2000, 1, 1), datetime(2026, 6, 1)), st.sampled_from(["seconds", "milliseconds"]))
def test_the_commonest_timestamps_are_read_exactly(moment: datetime, precision: str) -> None:
    text = moment.isoformat(timespec=precision)
    event = normalised(
        EventBody("x", event_timestamp=text + "Z"), organisation="o", received_at=NOW, context={}, new_id=lambda: "id"
    )
    assert isinstance(event, Event)
    assert event.time == (datetime.fromisoformat(text) - datetime(1970, 1, 1)) // timedelta(microseconds=1)


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=5))
def test_the_fast_answer_is_the_plain_answer(ids: list[str]) -> None:
    events: list[Event | Rejected] = [
        Event(organisation="o", event_id=each, event_type="x", time=1, received_at=1) for each in ids
    ]
    answer = all_accepted(events)
    assert answer is not None
    assert json.loads(answer) == {"accepted": len(ids), "results": [verdict_of(event) for event in events]}

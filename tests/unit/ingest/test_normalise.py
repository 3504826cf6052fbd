"""From JSON to the canonical event, or to a reason."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.normalise import MAX_EVENT_BYTES, MAX_ID_CHARACTERS, Reason, Rejected
from shared.clock import DAY, HOUR, SECOND
from shared.messages import Event
from shared.topics import EVENTS
from tests.unit.ingest.normalised import normalise

NOW = 1_729_593_000_000_000
"""2024-10-22T10:30:00Z"""


def judge(raw: bytes, context: dict[str, str] | None = None) -> Event | Rejected:
    return normalise(raw, organisation="acme", received_at=NOW, context=context or {}, new_id=lambda: "fresh-id")


def judged(**fields: Any) -> Event | Rejected:
    return judge(json.dumps({"event_type": "user_action", **fields}).encode())


def event(**fields: Any) -> Event:
    verdict = judged(**fields)
    assert isinstance(verdict, Event), verdict
    return verdict


def rejected(**fields: Any) -> Rejected:
    verdict = judged(**fields)
    assert isinstance(verdict, Rejected), verdict
    return verdict


def test_a_streaming_event_becomes_the_canonical_event() -> None:
    body = {
        "data_source_id": 7,
        "event_type": "user_action",
        "event_data": {"action": "purchase", "amount": 99.99, "product_id": 456},
        "event_timestamp": "2024-10-22T10:29:00.000250Z",
        "event_id": "e-1",
        "user_id": "u-1",
        "anonymous_id": "a-1",
        "session_id": "s-1",
        "job_id": "j-1",
        "context": {"locale": "de"},
        "organisation": "somebody else",
    }

    verdict = judge(json.dumps(body).encode(), {"appVersion": "3"})

    assert verdict == Event(
        organisation="acme",
        event_id="e-1",
        event_type="user_action",
        time=NOW - 60 * SECOND + 250,
        received_at=NOW,
        user_id="u-1",
        anonymous_id="a-1",
        session_id="s-1",
        job_id="j-1",
        data_source_id=7,
        context={"appVersion": "3", "locale": "de"},
        properties={"action": "purchase", "amount": 99.99, "product_id": 456},
    )


def test_an_event_type_is_enough() -> None:
    assert event() == Event(
        organisation="acme", event_id="fresh-id", event_type="user_action", time=NOW, received_at=NOW
    )


def test_nulls_count_as_absent() -> None:
    names = ["event_data", "event_timestamp", "data_source_id", "event_id", "user_id", "session_id", "context"]
    assert event(**dict.fromkeys(names)) == event()


def test_ids_that_are_missing_are_read_from_the_data() -> None:
    found = event(event_data={"userId": "u", "anonymousId": "a", "sessionId": "s", "jobId": "j"})

    assert (found.user_id, found.anonymous_id, found.session_id, found.job_id) == ("u", "a", "s", "j")
    assert found.properties == {"userId": "u", "anonymousId": "a", "sessionId": "s", "jobId": "j"}


def test_stated_ids_win_over_those_in_the_data() -> None:
    assert event(user_id="stated", event_data={"userId": "data"}).user_id == "stated"


@pytest.mark.parametrize(
    ("data", "job"),
    [
        ({"importJobId": "i", "migrationJobId": "m"}, "i"),
        ({"migrationJobId": "m"}, "m"),
        ({"jobId": "", "importJobId": None, "migrationJobId": 12}, "12"),
        ({"jobId": "j", "importJobId": "i"}, "j"),
    ],
)
def test_jobs_go_by_several_names(data: dict[str, Any], job: str) -> None:
    assert event(event_data=data).job_id == job


@pytest.mark.parametrize(
    ("given_id", "text"),
    [(42, "42"), (-7, "-7"), (2**64 - 1, "18446744073709551615"), (42.0, "42"), (1e21, "1" + "0" * 21), (0.5, "0.5")],
)
def test_numeric_ids_become_decimal_text(given_id: float, text: str) -> None:
    assert event(user_id=given_id).user_id == text
    assert event(event_data={"userId": given_id}).user_id == text
    assert event(event_id=given_id).event_id == text


def test_empty_ids_count_as_absent() -> None:
    found = event(event_id="", user_id="", event_data={"userId": "u"})

    assert (found.event_id, found.user_id) == ("fresh-id", "u")


@pytest.mark.parametrize("value", [True, {"id": 1}, ["u"]])
def test_ids_that_are_no_text_or_number_are_invalid(value: object) -> None:
    assert rejected(user_id=value).reason is Reason.SCHEMA
    assert rejected(event_data={"sessionId": value}).reason is Reason.ID_TYPE


@pytest.mark.parametrize("field", ["event_id", "user_id", "anonymous_id", "session_id", "job_id"])
def test_ids_have_a_greatest_length(field: str) -> None:
    assert getattr(event(**{field: "ü" * MAX_ID_CHARACTERS}), field) == "ü" * MAX_ID_CHARACTERS
    assert rejected(**{field: "ü" * (MAX_ID_CHARACTERS + 1)}).reason is Reason.ID_TOO_LONG


def test_the_event_type_is_text_of_1_to_200_characters() -> None:
    assert event(event_type="é" * 200).event_type == "é" * 200
    assert rejected(event_type="é" * 201).reason is Reason.EVENT_TYPE_TOO_LONG
    assert rejected(event_type="").reason is Reason.EVENT_TYPE_EMPTY
    assert rejected(event_type=" \t").reason is Reason.EVENT_TYPE_EMPTY
    assert rejected(event_type=None).reason is Reason.SCHEMA
    assert rejected(event_type=5).reason is Reason.SCHEMA
    assert isinstance(judge(b"{}"), Rejected)


@pytest.mark.parametrize(
    "text",
    [
        "2024-10-22T10:30:00Z",
        "2024-10-22t10:30:00z",
        "2024-10-22 10:30:00",
        "2024-10-22T10:30:00",
        "2024-10-22T12:30:00+02:00",
        "2024-10-22T12:30:00.000000000+0200",
        "2024-10-22T08:30:00.0-02:00",
    ],
)
def test_timestamps_are_rfc_3339_and_without_a_zone_utc(text: str) -> None:
    assert event(event_timestamp=text).time == NOW


def test_fractions_of_a_second_are_kept_to_the_microsecond() -> None:
    assert event(event_timestamp="2024-10-22T10:29:59.123456789Z").time == NOW - SECOND + 123_456


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2024-10-22",
        "20241022T103000Z",
        "2024-13-22T10:30:00Z",
        "2024-10-22T25:30:00Z",
        "2024-10-22T10:30Z",
        "2024-10-22T10:30:00+99:00",
        "2024-W43-2T10:30:00Z",
        "٢٠٢٤-10-22T10:30:00Z",
        "2024-10-22T10:30:00." + "1" * 100_000,
    ],
)
def test_other_timestamps_are_invalid(text: str) -> None:
    assert rejected(event_timestamp=text).reason is Reason.TIMESTAMP


@pytest.mark.parametrize("number", [1729593000, 1729593000000, 1729593000.5])
def test_a_number_is_no_timestamp_because_seconds_and_milliseconds_look_alike(number: float) -> None:
    assert rejected(event_timestamp=number).reason is Reason.SCHEMA


def test_events_are_dated_from_2000_to_a_day_ahead() -> None:
    assert event(event_timestamp="2000-01-01T00:00:00Z").time == 946_684_800_000_000
    assert rejected(event_timestamp="1999-12-31T23:59:59.999999Z").reason is Reason.TOO_EARLY
    assert rejected(event_timestamp="0001-01-01T00:00:00+23:59").reason is Reason.TOO_EARLY
    assert event(event_timestamp="2024-10-23T10:30:00Z").time == NOW + DAY
    assert rejected(event_timestamp="2024-10-23T10:30:00.000001Z").reason is Reason.TOO_LATE
    assert rejected(event_timestamp="9999-12-31T23:59:59-23:59").reason is Reason.TOO_LATE
    assert event(event_timestamp="2024-10-22T09:30:00Z").time == NOW - HOUR


@pytest.mark.parametrize("source", [0, -1, 2**31, 1.5, "1", True])
def test_a_data_source_is_a_positive_integer(source: object) -> None:
    assert rejected(data_source_id=source).reason is Reason.SCHEMA


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"event_type":"a","event_data":{"x":1e400}}', Reason.NON_FINITE),
        (b'{"event_type":"a","event_data":{"x":1180591620717411303424}}', Reason.INTEGER_RANGE),
        (b'{"event_type":"a","event_data":{"x":-9223372036854775809}}', Reason.INTEGER_RANGE),
        (b'{"event_type":"a\\u0000b"}', Reason.NUL),
        (b'{"event_type":"a","event_data":{"k\\u0000":1}}', Reason.NUL),
        (b'{"event_type":"a","event_data":{"x":"\\ud800"}}', Reason.SURROGATE),
        (b'{"event_type":"a","user_id":"\\udc00"}', Reason.SURROGATE),
        (b'{"event_type":"a","event_data":' + b'{"x":' * 64 + b"1" + b"}" * 64 + b"}", Reason.DEPTH),
        (b"[" * 100_000 + b"]" * 100_000, Reason.DEPTH),
        (b'{"event_type":"a","event_data":{"x":"' + b"y" * MAX_EVENT_BYTES + b'"}}', Reason.TOO_LARGE),
        (b"null", Reason.SCHEMA),
        (b'[{"event_type":"a"}]', Reason.SCHEMA),
        (b'{"event_type":"a","event_data":[1]}', Reason.SCHEMA),
        (b'{"event_type":"a","context":"web"}', Reason.SCHEMA),
        (b"", Reason.MALFORMED),
        (b'{"event_type":"a"', Reason.MALFORMED),
        (b'{"event_type":"a"}{"event_type":"b"}', Reason.MALFORMED),
        (b'{"event_type":5}{"event_type":"b"}', Reason.MALFORMED),
        (b'{"event_type":5', Reason.MALFORMED),
        (b'{"event_type":NaN}', Reason.MALFORMED),
        (b'{"event_type":"a","event_data":{"x":-Infinity}}', Reason.MALFORMED),
        (b'{"event_type":"\xff"}', Reason.MALFORMED),
    ],
)
def test_each_fault_has_its_reason(raw: bytes, reason: Reason) -> None:
    verdict = judge(raw)

    assert isinstance(verdict, Rejected)
    assert verdict.reason is reason
    assert verdict.detail


def test_the_first_fault_in_a_fixed_order_decides() -> None:
    faults: dict[str, Any] = {"event_type": "", "user_id": "u" * 300, "event_timestamp": "never"}
    assert rejected(**faults).reason is Reason.EVENT_TYPE_EMPTY
    faults["event_type"] = "a"
    assert rejected(**faults).reason is Reason.ID_TOO_LONG
    faults["user_id"] = "u"
    assert rejected(**faults).reason is Reason.TIMESTAMP


def test_the_senders_id_comes_back_where_it_can_be_read() -> None:
    assert rejected(event_id="mine", event_type="").event_id == "mine"
    assert rejected(event_id=12, event_type=5).event_id == "12"
    assert rejected(event_id="x" * 300).event_id is None
    assert rejected(event_id=True).event_id is None
    unreadable = judge(b'{"event_type":"a","event_id":"\\ud800"}')
    assert isinstance(unreadable, Rejected)
    assert unreadable.event_id is None
    readable = judge(b'{"event_type":"a\\u0000","event_id":"mine"}')
    assert isinstance(readable, Rejected)
    assert readable.event_id == "mine"


def test_the_largest_integers_and_deepest_nesting_allowed_are_kept() -> None:
    nested: Any = 1
    for _ in range(62):
        nested = [nested]
    data = {"most": 2**64 - 1, "least": -(2**63), "nested": nested}

    assert event(event_data=data).properties == data


def test_no_event_grows_beyond_what_the_topic_takes() -> None:
    """Numbers such as 1e15 are the shortest text whose canonical form is much longer."""
    head, tail = b'{"event_type":"a","event_data":{"x":[', b"1e15]}}"
    raw = head + b"1e15," * ((MAX_EVENT_BYTES - len(head) - len(tail)) // 5) + tail

    verdict = judge(raw)

    assert isinstance(verdict, Event)
    limit = int(EVENTS.config["max.message.bytes"])
    assert MAX_EVENT_BYTES < len(EVENTS.encode(verdict)) < limit - 10_000


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
names = st.sampled_from(
    ["event_type", "event_data", "event_timestamp", "event_id", "user_id", "job_id", "context", "data_source_id"]
) | st.text(max_size=8)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(names | st.sampled_from(["userId", "jobId"]), inner, max_size=8)
    ),
    max_leaves=20,
)


@given(st.dictionaries(names, documents, max_size=8) | documents)
def test_any_json_document_gets_a_verdict_that_kafka_can_carry(document: Any) -> None:
    verdict = judge(json.dumps(document).encode())

    if isinstance(verdict, Event):
        assert EVENTS.decode(EVENTS.encode(verdict)) == verdict
        assert verdict.organisation == "acme"
    else:
        assert msgspec.json.decode(msgspec.json.encode(verdict.detail))
        assert verdict.reason is not Reason.MALFORMED


@given(st.binary(max_size=200))
def test_any_bytes_get_a_verdict(raw: bytes) -> None:
    assert isinstance(judge(raw), Event | Rejected)

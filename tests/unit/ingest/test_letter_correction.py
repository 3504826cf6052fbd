"""From a dead letter and a correction to the event that is judged again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.ingest.domain.letters.correction import Correction, event_of, merge_patch
from services.ingest.domain.letters.selection import Reference, Selection, Viewer, event_type_of
from services.ingest.domain.normalise import EventBody, Reason, Rejected
from shared.keys import Principal
from shared.messages import DeadLetter, Scope
from shared.topic_search import Cursor

AT = 1_760_000_000_000_000


def _letter(payload: Any, **fields: Any) -> DeadLetter:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    given = {"id": "l-1", "organisation": "acme", "reason": "nul_character", "detail": "", "origin": "http", **fields}
    return DeadLetter(received_at=AT, payload=raw, **given)


def _record(payload: Any) -> DeadLetter:
    return _letter(payload, id="events.v1-3-17", origin="kafka", partition=3, offset=17)


def _event(letter: DeadLetter, correction: Correction = Correction()) -> EventBody:  # noqa: B008  # it is frozen
    _, body = event_of(letter, correction)
    assert isinstance(body, EventBody), body
    return body


def test_without_a_correction_the_letter_is_read_as_it_was_received() -> None:
    raw = b'{"event_type": "a", "event_id": 5, "event_timestamp": "2026-01-01T00:00:00Z" }'

    given, body = event_of(_letter(raw), Correction())

    assert given == raw
    assert isinstance(body, EventBody)
    assert (body.event_id, body.event_timestamp) == (5, "2026-01-01T00:00:00Z")


@pytest.mark.parametrize("event_id", [None, ""])
def test_an_event_without_an_id_gets_one_that_only_depends_on_the_letter(event_id: str | None) -> None:
    first = _event(_letter({"event_type": "a", "event_id": event_id}))
    again = _event(_letter({"event_type": "b"}))
    other = _event(_letter({"event_type": "a"}, id="l-2"))

    assert first.event_id == again.event_id
    assert first.event_id not in (None, "", other.event_id)


def test_an_event_without_a_time_happened_when_the_letter_came() -> None:
    assert _event(_letter({"event_type": "a"})).event_timestamp == "2025-10-09T08:53:20Z"


def test_an_event_may_be_sent_instead() -> None:
    body = _event(_letter(b"\xff no JSON"), Correction(event={"event_type": "fixed", "user_id": "u"}))

    assert (body.event_type, body.user_id) == ("fixed", "u")


def test_fields_are_renamed_before_the_patch_is_applied() -> None:
    letter = _letter({"type": "import", "event_data": {"job": {"id": 7}, "rows": 5, "secret": "x"}})
    correction = Correction(
        rename={
            "type": "event_type",
            "event_data.job.id": "job_id",
            "not.there": "user_id",
            "event_data.rows": "a.b",
        },
        patch={"event_data": {"secret": None, "rows": 6}, "session_id": "s"},
    )

    raw, body = event_of(letter, correction)

    assert isinstance(body, EventBody)
    assert (body.event_type, body.job_id, body.user_id, body.session_id) == ("import", 7, None, "s")
    assert body.event_data == {"job": {}, "rows": 6}
    assert json.loads(raw)["a"] == {"b": 5}


def test_a_field_is_not_moved_into_what_is_no_object() -> None:
    letter = _letter({"event_type": "a", "event_data": {"x": 1}})

    body = _event(letter, Correction(rename={"event_data.x": "event_type.x"}))

    assert body.event_data == {"x": 1}


def test_a_field_can_move_into_one_of_its_own_name() -> None:
    letter = _letter({"event_type": "a", "event_data": {"x": {"y": 1}}})

    body = _event(letter, Correction(rename={"event_data.x": "event_data.x.z"}))

    assert body.event_data == {"x": {"z": {"y": 1}}}


@pytest.mark.parametrize(
    ("payload", "correction", "reason"),
    [
        (b"{", Correction(), Reason.MALFORMED),
        (b"{", Correction(patch={"event_type": "a"}), Reason.MALFORMED),
        (b'{"event_type":"a\\u0000"}', Correction(patch={}), Reason.NUL),
        (b"[1]", Correction(patch={"event_type": "a"}), Reason.SCHEMA),
        (b'{"n":1}', Correction(patch={"m": 1}), Reason.SCHEMA),
        (b'{"event_type":"a"}', Correction(patch={"event_type": 5}), Reason.SCHEMA),
        (b"{}", Correction(event={"event_type": "a", "x": "y" * 300_000}), Reason.TOO_LARGE),
    ],
)
def test_what_is_still_no_event_is_refused_with_a_reason(
    payload: bytes, correction: Correction, reason: Reason
) -> None:
    _, body = event_of(_letter(payload), correction)

    assert isinstance(body, Rejected)
    assert body.reason is reason


def test_an_unreadable_record_of_the_log_is_read_in_the_logs_own_form() -> None:
    record = {
        "organisation": "acme",
        "event_id": "e",
        "event_type": "a",
        "time": AT,
        "received_at": 1,
        "user_id": "u",
    }

    body = _event(_record({**record, "properties": {"x": 1}}), Correction(patch={"properties": {"y": 2}}))

    assert (body.event_id, body.event_type, body.user_id) == ("e", "a", "u")
    assert (body.event_data, body.event_timestamp) == ({"x": 1, "y": 2}, "2025-10-09T08:53:20Z")


def test_an_unreadable_record_may_be_corrected_in_the_form_of_http_too() -> None:
    sent = {"event_type": "b", "event_timestamp": "2026-01-01T00:00:00Z", "event_data": {"z": 1}}

    body = _event(_record({"time": -1, "properties": {"x": 1}}), Correction(patch=sent))

    assert (body.event_type, body.event_data, body.event_timestamp) == ("b", {"z": 1}, "2026-01-01T00:00:00Z")


@pytest.mark.parametrize("time", [-1, 10**18, "yesterday", True, [1]])
def test_a_record_with_an_impossible_time_keeps_it_for_the_judge(time: Any) -> None:
    assert isinstance(_event(_record({"event_type": "a", "time": time})).event_timestamp, str)


def test_what_came_in_another_form_is_read_in_that_form_unless_an_event_is_given_instead() -> None:
    def read(raw: bytes) -> EventBody | Rejected:
        return EventBody(event_type=json.loads(raw)["event"], user_id=json.loads(raw).get("userId"))

    letter = _letter({"event": "bought"}, origin="other")
    _, as_received = event_of(letter, Correction(), read)
    _, patched = event_of(letter, Correction(patch={"userId": "u"}), read)
    _, replaced = event_of(letter, Correction(event={"event_type": "sold"}), read)

    assert isinstance(as_received, EventBody)
    assert isinstance(patched, EventBody)
    assert isinstance(replaced, EventBody)
    assert (as_received.event_type, patched.user_id, replaced.event_type) == ("bought", "u", "sold")


def test_a_merge_patch_is_that_of_its_standard() -> None:
    """The examples of RFC 7396, appendix A."""
    cases: list[tuple[Any, Any, Any]] = [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ]
    for target, patch, result in cases:
        assert merge_patch(target, patch) == result


@pytest.mark.parametrize(
    ("organisation", "scope", "seen"),
    [
        ("acme", "admin", {"acme"}),
        ("default", "read", {"default"}),
        ("default", "admin", {"default", ""}),
    ],
)
def test_nobodys_letters_are_for_administrators_of_the_default_organisation(
    organisation: str, scope: Scope, seen: set[str]
) -> None:
    viewer = Viewer.of(Principal(organisation, scope))

    letters = [_letter(b"", organisation=name) for name in ("", "acme", "default")]
    assert {one.organisation for one in letters if viewer.visible(one)} == seen


@pytest.mark.parametrize(
    ("selection", "selected"),
    [
        (Selection(), True),
        (Selection(reason="nul_character", origin="http", event_type="ä", text='"x"'), True),
        (Selection(reason="nul"), False),
        (Selection(origin="kafka"), False),
        (Selection(event_type="x"), False),
        (Selection(text="nowhere"), False),
        (Selection(text="byte 3"), True),
    ],
)
def test_a_selection_asks_for_everything_it_names(selection: Selection, selected: bool) -> None:
    letter = _letter('{"event_type":"ä","x":"x"}'.encode(), detail="at byte 3")

    assert (selection.selected(letter) is letter) is selected


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"event_type":5}', b"[" * 100_000, b"\xff", b"\x00"])
def test_a_payload_may_have_no_event_type(payload: bytes) -> None:
    assert event_type_of(payload) is None


def test_a_reference_is_read_as_it_was_written_and_tells_letters_apart() -> None:
    reference = Reference.to(2, 15, _letter(b""))

    assert Reference.parsed(str(reference)) == reference
    assert Reference.to(2, 15, _letter(b"", id="l-2")) != reference


@pytest.mark.parametrize(
    "text", ["", "1", "1-2", "1-2-3", "-1-2-00000000", "x-2-00000000", "²-2-00000000", "9" * 5000]
)
def test_what_is_no_reference_is_none(text: str) -> None:
    assert Reference.parsed(text) is None


def test_a_cursor_is_read_as_it_was_written() -> None:
    cursor = Cursor(((0, 5), (3, 7_000_000)))

    assert Cursor.parsed(str(cursor)) == cursor
    for text in ("", "0", "0-x", "0-1.", "0--1", "٣-1", "0-" + "9" * 30):
        assert Cursor.parsed(text) is None

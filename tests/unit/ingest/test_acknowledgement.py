"""Messages settled in as few words as possible: each exactly once, in order, with the events it brought."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.acknowledgement import Judged, acknowledgements
from services.ingest.domain.normalise import Reason, Rejected
from services.ingest.domain.quality.aside import Aside, SetAside, Verdict
from services.ingest.domain.stream_frame import FrameFault, NoFrame
from services.ingest.domain.window import Fullness, Window
from shared.messages import Event

GOOD = Event(organisation="acme", event_id="e", event_type="a", time=1, received_at=1)
BAD = Rejected(Reason.SCHEMA, "d" * 500, "b-1")
ODD = SetAside(Aside.SCHEMA_MISMATCH, "odd", "q-1")
BOT = SetAside(Aside.BOT, "a robot sent it", "r-1")


def test_messages_without_a_fault_share_one_acknowledgement() -> None:
    judged = [Judged(n, n + 100, [GOOD, GOOD]) for n in (1, 2, 3)]
    assert list(acknowledgements(judged)) == [{"type": "ack", "message": 3, "seq": 103, "accepted": 6}]


def test_a_message_with_an_invalid_event_has_its_own_which_names_it() -> None:
    judged = [Judged(1, 1, [GOOD]), Judged(2, 2, [GOOD, BAD, GOOD]), Judged(3, None, [GOOD])]
    verdict = {"index": 1, "event_id": "b-1", "reason": "schema_violation", "detail": "d" * 200}
    assert list(acknowledgements(judged)) == [
        {"type": "ack", "message": 1, "seq": 1, "accepted": 1},
        {"type": "ack", "message": 2, "seq": 2, "accepted": 2, "invalid": [verdict]},
        {"type": "ack", "message": 3, "seq": None, "accepted": 1},
    ]


def test_a_message_that_could_not_be_read_is_refused_as_a_whole() -> None:
    judged = [Judged(1, None, NoFrame(None, FrameFault.MALFORMED, "no JSON"))]
    refused = {"reason": "malformed_json", "detail": "no JSON"}
    assert list(acknowledgements(judged)) == [
        {"type": "ack", "message": 1, "seq": None, "accepted": 0, "refused": refused}
    ]


def test_quarantined_events_are_named_and_dropped_ones_only_counted() -> None:
    judged = [Judged(1, 1, [GOOD, BOT]), Judged(2, 2, [BOT]), Judged(3, 3, [GOOD, ODD, BOT])]
    verdict = {"index": 1, "event_id": "q-1", "reason": "schema_mismatch", "detail": "odd"}
    assert list(acknowledgements(judged)) == [
        {"type": "ack", "message": 2, "seq": 2, "accepted": 1, "dropped": 2},
        {"type": "ack", "message": 3, "seq": 3, "accepted": 1, "dropped": 1, "quarantined": [verdict]},
    ]


_OUTCOMES = st.one_of(
    st.lists(st.sampled_from([GOOD, BAD, ODD, BOT]), min_size=1, max_size=4),
    st.just(NoFrame(None, FrameFault.EMPTY, "")),
)


@given(st.lists(_OUTCOMES, max_size=20))
def test_every_message_is_settled_once_and_every_event_counted(
    outcomes: list[list[Verdict] | NoFrame],
) -> None:
    said = list(acknowledgements(Judged(n, None, outcome) for n, outcome in enumerate(outcomes, 1)))
    settled = [one["message"] for one in said]
    assert settled == sorted(set(settled))
    assert settled[-1:] == ([len(outcomes)] if outcomes else [])
    events = [verdict for outcome in outcomes if not isinstance(outcome, NoFrame) for verdict in outcome]
    assert sum(one["accepted"] for one in said) == sum(isinstance(verdict, Event) for verdict in events)
    assert sum(len(one.get("invalid", ())) for one in said) == sum(
        isinstance(verdict, Rejected) for verdict in events
    )
    assert sum(len(one.get("quarantined", ())) for one in said) == events.count(ODD)
    assert sum(one.get("dropped", 0) for one in said) == events.count(BOT)
    with_faults = [n for n, o in enumerate(outcomes, 1) if isinstance(o, NoFrame) or BAD in o]
    assert [one["message"] for one in said if "invalid" in one or "refused" in one] == with_faults


def test_a_window_is_full_by_messages_or_by_bytes_and_has_room_again_once_they_are_settled() -> None:
    window = Window(credit=2, room=10)
    assert window.full() is None
    window.take(3)
    window.take(3)
    assert window.full() is Fullness.MESSAGES
    window.settle(2, 6)
    window.take(10)
    assert window.full() is Fullness.BYTES
    window.settle(1, 10)
    assert (window.full(), window.messages, window.bytes) == (None, 0, 0)

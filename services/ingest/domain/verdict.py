"""What an answer says of one event."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from services.ingest.domain.normalise import Rejected
from services.ingest.domain.quality.aside import WARNING, SetAside, Verdict, WarnedEvent
from shared.messages import Event

_ENCODER = msgspec.json.Encoder()


def verdict_of(decided: Verdict) -> dict[str, str | None]:
    """As JSON: `event_id` and `status`, of what is not stored `reason` and `detail` too, else perhaps a `warning`."""
    if isinstance(decided, Event):
        said: dict[str, str | None] = {"event_id": decided.event_id, "status": "accepted"}
        return {**said, "warning": decided.context.get(WARNING)} if isinstance(decided, WarnedEvent) else said
    return {
        "event_id": decided.event_id,
        "status": decided.status.value if isinstance(decided, SetAside) else "invalid",
        "reason": decided.reason.value,
        "detail": decided.detail,
    }


def is_rejected(verdicts: Sequence[Verdict]) -> bool:  # a property of the values, no decision
    """Whether nothing of them is any good to anybody: all are invalid."""
    return all(isinstance(verdict, Rejected) for verdict in verdicts)


def all_accepted(verdicts: Sequence[Verdict]) -> bytes | None:
    """`{"accepted": how many, "results": [a verdict for each]}`, quickly; None if there is more to say of one."""
    ids = [verdict.event_id for verdict in verdicts if type(verdict) is Event]
    if len(ids) < len(verdicts):
        return None
    # JSON has no line break of its own.
    entries = _ENCODER.encode_lines(ids)[:-1].replace(b"\n", b',"status":"accepted"},{"event_id":')
    return b'{"accepted":%d,"results":[{"event_id":%b,"status":"accepted"}]}' % (len(ids), entries)

"""What an answer says of one event."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from services.ingest.domain.normalise import Rejected
from shared.messages import Event

_ENCODER = msgspec.json.Encoder()


def verdict_of(decided: Event | Rejected) -> dict[str, str | None]:
    """As JSON: `event_id` and `status`, of an invalid event `reason` and `detail` too."""
    if isinstance(decided, Event):
        return {"event_id": decided.event_id, "status": "accepted"}
    return {
        "event_id": decided.event_id,
        "status": "invalid",
        "reason": decided.reason.value,
        "detail": decided.detail,
    }


def all_accepted(verdicts: Sequence[Event | Rejected]) -> bytes | None:
    """`{"accepted": how many, "results": [a verdict for each]}`, quickly; None if one is invalid."""
    ids = [verdict.event_id for verdict in verdicts if isinstance(verdict, Event)]
    if len(ids) < len(verdicts):
        return None
    # JSON has no line break of its own.
    entries = _ENCODER.encode_lines(ids)[:-1].replace(b"\n", b',"status":"accepted"},{"event_id":')
    return b'{"accepted":%d,"results":[{"event_id":%b,"status":"accepted"}]}' % (len(ids), entries)

"""What would become of events that are only tried out: nothing of them is kept."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from services.ingest.domain.normalise import Rejected, normalised, read_event
from services.ingest.domain.quality.aside import Verdict
from shared.messages import Event

_ENCODER = msgspec.json.Encoder()


def tried_out(
    sample: Mapping[str, Any], organisation: str, now: int, judge: Callable[[Event], Verdict] | None
) -> Verdict:
    """What `judge` says of the event that the sample describes, or why it describes none."""
    body = read_event(_ENCODER.encode(sample))
    if isinstance(body, Rejected):
        return body
    event = normalised(body, organisation=organisation, received_at=now, context={}, new_id=lambda: str(uuid.uuid4()))
    return event if judge is None or isinstance(event, Rejected) else judge(event)

"""What ingest makes of one event's bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.ingest.domain.normalise import Rejected, normalised, read_event
from shared.messages import Event


def normalise(
    raw: bytes, *, organisation: str, received_at: int, context: Mapping[str, str], new_id: Callable[[], str]
) -> Event | Rejected:
    body = read_event(raw)
    if isinstance(body, Rejected):
        return body
    return normalised(body, organisation=organisation, received_at=received_at, context=context, new_id=new_id)

"""Dead letters as answers show them."""

from __future__ import annotations

import base64
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, Field

from services.ingest.domain.letters.ledger import Ledger
from services.ingest.letters.search import Found
from shared import strict_json
from shared.clock import to_iso
from shared.messages import Kept

StateName = Literal["open", "replaying", "replayed", "discarded"]


class DeadLetterItem(BaseModel):
    """A dead letter; one of `payload` and `payload_base64` is there."""

    id: str = Field(description="Names the letter in this interface")
    state: StateName
    organisation: str = Field(description="Empty if nobody knows whose it is; only operators see such letters")
    reason: str
    detail: str
    origin: str = Field(description="How it came in: `http`, `kafka` for an unreadable record of `events.v1`, …")
    received_at: str
    rejected_at: str = Field(description="When it became a dead letter; `since` and `until` are about this")
    partition: int | None = Field(description="Where it stands in the topic from which it was read")
    offset: int | None
    event_id: str | None = Field(default=None, description="Of the event that it became; only for recent replays")
    settled_at: str | None = Field(default=None, description="When it was replayed or discarded, if recently")
    kept: Kept = Field(
        description="What it has of what was received: `redacted` by rules of privacy, in the form of an event over "
        "HTTP; `withheld`: nothing"
    )
    payload: Any = Field(default=None, description="What was received, if it is JSON that can be shown")
    payload_base64: str | None = Field(default=None, description="What was received, if it is not")


class DeadLetterList(BaseModel):
    items: list[DeadLetterItem]
    searched: int = Field(description="So many letters, of all organisations, have been looked at")
    next_cursor: str | None = Field(
        description="Goes on where this answer stops; null if there is no more. An answer may have fewer items than "
        "asked for and still a cursor: then the search was cut short"
    )


class _Item(msgspec.Struct):
    """`DeadLetterItem` without the cost of parsed payloads."""

    id: str
    state: str
    organisation: str
    reason: str
    detail: str
    origin: str
    received_at: str
    rejected_at: str
    partition: int | None
    offset: int | None
    event_id: str | msgspec.UnsetType = msgspec.UNSET
    settled_at: str | msgspec.UnsetType = msgspec.UNSET
    kept: str = "as_sent"
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    payload_base64: str | msgspec.UnsetType = msgspec.UNSET


_ENCODER = msgspec.json.Encoder()


def item(found: Found, ledger: Ledger) -> msgspec.Raw:
    """The `DeadLetterItem` as JSON on one line."""
    letter = found.letter
    mark = ledger.settled_by(letter.id)
    shown = _Item(
        id=str(found.reference),
        state=ledger.state(letter.id).value,
        organisation=letter.organisation,
        reason=letter.reason,
        detail=letter.detail,
        origin=letter.origin,
        received_at=_iso(letter.received_at),
        rejected_at=_iso(found.rejected_at),
        partition=letter.partition,
        offset=letter.offset,
        event_id=msgspec.UNSET if mark is None or mark.event_id is None else mark.event_id,
        kept=letter.kept,
        settled_at=msgspec.UNSET if mark is None else _iso(mark.marked_at),
    )
    try:
        # Parsed and written anew: what was sent may hold line breaks.
        shown.payload = msgspec.Raw(_ENCODER.encode(strict_json.loads(letter.payload)))
    except strict_json.InvalidJsonError:
        shown.payload_base64 = base64.b64encode(letter.payload).decode()
    return msgspec.Raw(_ENCODER.encode(shown))


def encoded(answer: Any) -> bytes:
    return _ENCODER.encode(answer)


def _iso(micros: int) -> str:
    try:
        return to_iso(micros)
    except OverflowError:
        return str(micros)

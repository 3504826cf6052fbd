"""Clocks of clients that are wrong: what passed on the client until it sent the batch is right nevertheless.

time = received − (sent_at − event_timestamp)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from services.ingest.domain.batch_body import NoBatch, taken_apart
from services.ingest.domain.compat.times import corrected
from services.ingest.domain.normalise import RFC3339, EventBody, Reason, Rejected

ORIGINAL = "originalTimestamp"
"""Where in an event's context its time by the client's own clock stays."""

_NAME = b'"sent_at"'


class _Sent(msgspec.Struct):
    sent_at: Any = None


_SENT = msgspec.json.Decoder(_Sent)


@dataclass(frozen=True, slots=True)
class NoSentAt:
    """The batch states when it was sent, but not as a time."""

    reason: Reason
    detail: str


def sent_at_of(body: bytes) -> str | NoSentAt | None:
    """When a batch says that it was sent; None if it does not say, or is no JSON object."""
    if _NAME not in body:
        return None
    sent_at = _stated(body)
    if sent_at is None:
        return None
    if not isinstance(sent_at, str) or len(sent_at) > 64 or not RFC3339.fullmatch(sent_at):
        return NoSentAt(Reason.TIMESTAMP, "sent_at must look like 2026-01-02T03:04:05.678Z")
    try:
        datetime.fromisoformat(sent_at.upper())
    except ValueError as error:
        return NoSentAt(Reason.TIMESTAMP, f"sent_at: {error}")
    return sent_at


def _stated(body: bytes) -> Any:
    try:
        return _SENT.decode(body).sent_at
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    # One hostile event makes the whole body unreadable for the parser; the others have their times nevertheless.
    parts = taken_apart(body, "events")
    if parts is None or isinstance(parts, NoBatch):
        return None
    try:
        return _SENT.decode(parts[0]).sent_at
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def by_our_clock(body: EventBody | Rejected, sent_at: str, received_at: int) -> EventBody | Rejected:
    """The event with its time by our clock, and its own in its context. `received_at` is in microseconds UTC.

    An event without a time happened when it arrived; a time that cannot be read is left for the judge.
    """
    if isinstance(body, Rejected) or body.event_timestamp is None or not RFC3339.fullmatch(body.event_timestamp):
        return body
    time = corrected(body.event_timestamp, sent_at, received_at)
    if time != body.event_timestamp:
        body.context = {ORIGINAL: body.event_timestamp, **(body.context or {})}
        body.event_timestamp = time
    return body

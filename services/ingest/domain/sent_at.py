"""Clocks of clients that are wrong: what passed on the client until it sent the batch is right nevertheless.

time = received − (sent_at − event_timestamp)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from services.ingest.domain.batch_body import NoBatch, taken_apart
from services.ingest.domain.compat.times import corrected
from services.ingest.domain.normalise import RFC3339, EventBody, Reason, Rejected

ORIGINAL = "originalTimestamp"
"""Where in an event's context its time by the client's own clock stays."""

HEADER = "X-Sent-At"
_HEADER = b"x-sent-at"
_NAME = b'"sent_at"'
_LONGEST = 64
_LATEST = 253_402_300_799_000
"""9999-12-31T23:59:59Z in milliseconds."""


class _Sent(msgspec.Struct):
    sent_at: Any = None


_SENT = msgspec.json.Decoder(_Sent)


@dataclass(frozen=True, slots=True)
class NoSentAt:
    """The request states when it was sent, but not as a time."""

    reason: Reason
    detail: str


def sent_at_of(body: bytes) -> str | NoSentAt | None:
    """When a batch or an event says that it was sent; None if it does not say, or is no JSON to the parser."""
    if _NAME not in body:
        return None
    sent_at = _stated(body)
    return None if sent_at is None else _checked(sent_at, "sent_at")


def sent_at_around(body: bytes) -> str | NoSentAt | None:
    """The same of a batch that the parser cannot read because of a hostile event: the others have their times.

    It takes up to a microsecond a byte.
    """
    if _NAME not in body:
        return None
    parts = taken_apart(body, "events")
    return None if parts is None or isinstance(parts, NoBatch) else sent_at_of(parts[0])


def sent_at_in(headers: Iterable[tuple[bytes, bytes]]) -> str | NoSentAt | None:
    """The same from lower-case `headers`, for bodies that have no place for it; of repeated ones the first holds."""
    for name, value in headers:
        if name == _HEADER:
            return _checked(value.decode("latin-1").strip(), HEADER)
    return None


def _checked(sent_at: Any, name: str) -> str | NoSentAt:
    if not isinstance(sent_at, str) or len(sent_at) > _LONGEST or not RFC3339.fullmatch(sent_at):
        return NoSentAt(Reason.TIMESTAMP, f"{name} must look like 2026-01-02T03:04:05.678Z")
    try:
        datetime.fromisoformat(sent_at.upper())
    except ValueError as error:
        return NoSentAt(Reason.TIMESTAMP, f"{name}: {error}")
    return sent_at


def _stated(body: bytes) -> Any:
    try:
        return _SENT.decode(body).sent_at
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def legible(sent_at: object) -> str | float | None:
    """What of any statement may be a time; None for all else."""
    if isinstance(sent_at, str):
        return sent_at if len(sent_at) <= _LONGEST and sent_at.isascii() and sent_at.isprintable() else None
    if isinstance(sent_at, bool) or not isinstance(sent_at, int | float):
        return None
    return float(sent_at) if 0 < sent_at < _LATEST else None


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

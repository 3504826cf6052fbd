"""Normalisation as plainly as it can be said: what the fast one must agree with, verdict by verdict."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from services.ingest.domain.client_context import merged
from services.ingest.domain.normalise import (
    EARLIEST,
    MAX_AHEAD,
    MAX_EVENT_TYPE_CHARACTERS,
    MAX_ID_CHARACTERS,
    EventBody,
    Reason,
    Rejected,
)
from shared.messages import Event

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _BadIdError(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


_USER = ("userId",)
_ANONYMOUS = ("anonymousId",)
_SESSION = ("sessionId",)
_JOB = ("jobId", "importJobId", "migrationJobId")


def plainly_normalised(
    body: EventBody, organisation: str, received_at: int, context: Mapping[str, str], new_id: Callable[[], str]
) -> Event | Rejected:
    event_type = body.event_type
    if not event_type or event_type.isspace():
        return Rejected(Reason.EVENT_TYPE_EMPTY, "event_type is empty")
    if len(event_type) > MAX_EVENT_TYPE_CHARACTERS:
        detail = f"event_type may have at most {MAX_EVENT_TYPE_CHARACTERS} characters"
        return Rejected(Reason.EVENT_TYPE_TOO_LONG, detail)
    data = body.event_data or {}
    try:
        event_id = _id("event_id", body.event_id)
        user_id = _id("user_id", body.user_id) or _alias(data, _USER)
        anonymous_id = _id("anonymous_id", body.anonymous_id) or _alias(data, _ANONYMOUS)
        session_id = _id("session_id", body.session_id) or _alias(data, _SESSION)
        job_id = _id("job_id", body.job_id) or _alias(data, _JOB)
    except _BadIdError as error:
        return Rejected(error.reason, str(error))
    time = received_at if body.event_timestamp is None else _time(body.event_timestamp, received_at)
    if isinstance(time, Rejected):
        return time
    return Event(
        organisation=organisation,
        event_id=event_id or new_id(),
        event_type=event_type,
        time=time,
        received_at=received_at,
        user_id=user_id,
        anonymous_id=anonymous_id,
        session_id=session_id,
        job_id=job_id,
        data_source_id=body.data_source_id or 1,
        context=merged(context, body.context),
        properties=data,
    )


def _id(name: str, value: Any) -> str | None:
    """Text as it is, numbers as decimal text; empty text is no id. Raises _BadIdError."""
    if value is None:
        return None
    if not isinstance(value, str):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _BadIdError(Reason.ID_TYPE, f"{name} must be text or a number")
        value = str(value) if isinstance(value, int) else _decimal(value)
    if len(value) > MAX_ID_CHARACTERS:
        raise _BadIdError(Reason.ID_TOO_LONG, f"{name} may have at most {MAX_ID_CHARACTERS} characters")
    return value or None


def _alias(data: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        if name in data and (found := _id(f"event_data.{name}", data[name])):
            return found
    return None


def _decimal(number: float) -> str:
    """42.0 is the id 42, as in clients whose numbers are all floats; never an exponent."""
    if number == 0:
        return "0"
    text = format(Decimal(repr(number)), "f")
    return text.removesuffix(".0")


_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)?", re.ASCII)


def _time(text: str, received_at: int) -> int | Rejected:
    if len(text) > 64 or not _RFC3339.fullmatch(text):
        return Rejected(Reason.TIMESTAMP, "event_timestamp must look like 2026-01-02T03:04:05.678Z")
    try:
        moment = datetime.fromisoformat(text.upper())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        time = (moment - _EPOCH) // timedelta(microseconds=1)
    except ValueError as error:
        return Rejected(Reason.TIMESTAMP, f"event_timestamp: {error}")
    if time < EARLIEST:
        return Rejected(Reason.TOO_EARLY, f"event_timestamp {text} is before 2000")
    if time > received_at + MAX_AHEAD:
        return Rejected(Reason.TOO_LATE, f"event_timestamp {text} is more than 24 h ahead")
    return time

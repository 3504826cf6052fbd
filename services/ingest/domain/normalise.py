"""From the JSON that a client sent to the canonical event, or to the reason why there is none.

The first fault found decides, in this order: size, what JSON may hold (`shared.strict_json`), the body's shape, event
type, ids, time, what its kind demands. Nothing here raises for any input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from services.ingest.domain.client_context import merged
from services.ingest.domain.kinds.check import fault_of
from shared import strict_json
from shared.clock import DAY, from_datetime
from shared.messages import Event
from shared.strict_json import InvalidJsonError, Violation

MAX_EVENT_BYTES = 256 * 1024
MAX_EVENT_TYPE_CHARACTERS = 200
MAX_ID_CHARACTERS = 256
EARLIEST = 946_684_800_000_000
"""2000-01-01T00:00:00Z: what is dated before comes from a clock that was never set."""
MAX_AHEAD = DAY
"""How far a client's clock may run ahead of ours."""


class Reason(Enum):
    """Why an event is refused; the value is what clients and dead letters read."""

    MALFORMED = Violation.MALFORMED.value
    """No JSON at all: the whole request is refused, nothing is dead-lettered; but of lines only this one is."""
    SCHEMA = Violation.SCHEMA.value
    NON_FINITE = Violation.NON_FINITE.value
    INTEGER_RANGE = Violation.INTEGER_RANGE.value
    NUL = Violation.NUL.value
    SURROGATE = Violation.SURROGATE.value
    DEPTH = Violation.DEPTH.value
    TOO_LARGE = "event_too_large"
    EVENT_TYPE_EMPTY = "event_type_empty"
    EVENT_TYPE_TOO_LONG = "event_type_too_long"
    ID_TYPE = "id_not_text_or_number"
    ID_TOO_LONG = "id_too_long"
    TIMESTAMP = "timestamp_not_rfc3339"
    TOO_EARLY = "timestamp_before_2000"
    TOO_LATE = "timestamp_in_future"
    MAPPING = "mapping_failed"
    """A data source's message does not give what the source's mapping needs."""
    UNIT_MISSING = "unit_missing"
    """Another product's format that asks for the unit's id, without one."""
    SPECVERSION = "specversion_unsupported"
    """A CloudEvent of another version than 1.0."""
    SCHEMA_MISMATCH = "schema_mismatch"
    """The event's data is not as its organisation's schema for the event type says."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """No event. `event_id` is the client's, where one could be read."""

    reason: Reason
    detail: str
    event_id: str | None = None


Id = str | int | float | None

_TIMESTAMP_IS = (
    "RFC 3339; without a zone it is UTC. Absent: the time of arrival. Numbers are refused, because seconds and "
    "milliseconds look alike."
)


class EventBody(msgspec.Struct, gc=False):
    """One event as clients send it; fields that are not named here are ignored."""

    event_type: str
    event_data: dict[str, Any] | None = None
    event_timestamp: Annotated[str, msgspec.Meta(description=_TIMESTAMP_IS)] | None = None
    data_source_id: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    """1 (the default) is the built-in HTTP source."""
    event_id: Id = None
    user_id: Id = None
    anonymous_id: Id = None
    session_id: Id = None
    job_id: Id = None
    context: dict[str, Any] | None = None


_BODY = msgspec.json.Decoder(EventBody)

USER_ALIAS = "userId"
ANONYMOUS_ALIAS = "anonymousId"
SESSION_ALIAS = "sessionId"
JOB_ALIASES = ("jobId", "importJobId", "migrationJobId")
_ANY_JOB = frozenset(JOB_ALIASES)


class _BadIdError(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def read_event(raw: bytes) -> EventBody | Rejected:
    """What one JSON object says, whether or not that makes an event."""
    if len(raw) > MAX_EVENT_BYTES:
        return Rejected(Reason.TOO_LARGE, f"an event may have at most {MAX_EVENT_BYTES} bytes; this has {len(raw)}")
    try:
        return strict_json.decode(raw, _BODY)
    except InvalidJsonError as error:
        return Rejected(Reason(error.violation.value), str(error), readable_id(raw))


def normalised(
    body: EventBody,
    *,
    organisation: str,
    received_at: int,
    context: Mapping[str, str],
    new_id: Callable[[], str],
) -> Event | Rejected:
    """The event that the body describes.

    `received_at` is in microseconds UTC and becomes the event's time where it states none. `context` is what the
    sender's connection says. `new_id` names an event that came without an id.
    """
    verdict = _normalised(body, organisation, received_at, context, new_id)
    if isinstance(verdict, Rejected):
        return Rejected(verdict.reason, verdict.detail, _valid_id(body.event_id))
    fault = fault_of(verdict)
    return verdict if fault is None else Rejected(Reason.SCHEMA, fault, _valid_id(body.event_id))


def _normalised(
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
        # A call for what is not there would cost as much as one for what is: hence the questions before.
        event_id = None if body.event_id is None else _id("event_id", body.event_id)
        user_id = None if body.user_id is None else _id("user_id", body.user_id)
        if not user_id and USER_ALIAS in data:
            user_id = _alias(data, USER_ALIAS)
        anonymous_id = None if body.anonymous_id is None else _id("anonymous_id", body.anonymous_id)
        if not anonymous_id and ANONYMOUS_ALIAS in data:
            anonymous_id = _alias(data, ANONYMOUS_ALIAS)
        session_id = None if body.session_id is None else _id("session_id", body.session_id)
        if not session_id and SESSION_ALIAS in data:
            session_id = _alias(data, SESSION_ALIAS)
        job_id = None if body.job_id is None else _id("job_id", body.job_id)
        if not job_id and not _ANY_JOB.isdisjoint(data):
            job_id = _alias(data, *JOB_ALIASES)
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


def _alias(data: Mapping[str, Any], *names: str) -> str | None:
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


_TO_THE_SECOND = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d", re.ASCII)
RFC3339 = re.compile(_TO_THE_SECOND.pattern + r"(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)?", re.ASCII)


FRACTIONS = {"Z": 0, **{f".{n:03d}Z": n * 1_000 for n in range(1_000)}}
"""What may follow the seconds → microseconds."""


@lru_cache(maxsize=4_096)
def second_of(text: str) -> int | None:
    """`2026-01-02T03:04:05` in microseconds UTC; None if it is none. Events of one time share a few."""
    if not _TO_THE_SECOND.fullmatch(text):
        return None
    try:
        return from_datetime(datetime.fromisoformat(text.upper()))
    except ValueError:
        return None


def _time(text: str, received_at: int) -> int | Rejected:
    # The commonest form takes a third of the time: UTC, to the second or to the millisecond.
    fraction = FRACTIONS.get(text[19:])
    second = None if fraction is None else second_of(text[:19])
    if second is not None and fraction is not None:
        time = second + fraction
    else:
        if len(text) > 64 or not RFC3339.fullmatch(text):
            return Rejected(Reason.TIMESTAMP, "event_timestamp must look like 2026-01-02T03:04:05.678Z")
        try:
            time = from_datetime(datetime.fromisoformat(text.upper()))
        except ValueError as error:
            return Rejected(Reason.TIMESTAMP, f"event_timestamp: {error}")
    if time < EARLIEST:
        return Rejected(Reason.TOO_EARLY, f"event_timestamp {text} is before 2000")
    if time > received_at + MAX_AHEAD:
        return Rejected(Reason.TOO_LATE, f"event_timestamp {text} is more than 24 h ahead")
    return time


def _valid_id(value: Any) -> str | None:
    try:
        text = _id("event_id", value)
        strict_json.check(text)
    except (_BadIdError, InvalidJsonError):
        return None
    return text


def readable_id(raw: bytes) -> str | None:
    """The id of an event that does not decode, so that a batch's sender can tell which one it was."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return _valid_id(value.get("event_id")) if isinstance(value, dict) else None

"""A record of `events.v1`, decoded alone: one bad record spoils nothing but itself."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import msgspec

from shared.clock import DAY

EARLIEST = 946_684_800_000_000
"""2000-01-01."""
_LATEST = 32_503_680_000_000_000
"""3000-01-01: keeps every time inside 64 bits and Postgres's calendar."""
MAX_DEPTH = 64
"""What is nested deeper can be folded, but not shown: most programs refuse to write it."""
MAX_AHEAD = DAY
"""An event may lie this far ahead of the broker's clock."""

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
_Organisation = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
"""Part of primary keys: Postgres refuses index entries of more than 2,700 bytes."""
_Time = Annotated[int, msgspec.Meta(ge=EARLIEST, le=_LATEST)]


class DecodedEvent(msgspec.Struct, gc=False):
    """`shared.messages.Event` as the fold reads it: bounded, mutable for speed, never mutated."""

    organisation: _Organisation
    event_id: _Id
    event_type: _Id
    time: _Time
    user_id: str | None = None
    anonymous_id: str | None = None
    session_id: str | None = None
    job_id: str | None = None
    data_source_id: int = 1
    context: dict[str, Any] = {}
    properties: dict[str, Any] = {}


class Unreadable(Enum):
    """Why a record is dead-lettered; the value is the machine-readable reason."""

    EMPTY = "empty"
    MALFORMED = "malformed_json"
    SCHEMA = "schema_violation"
    DEPTH = "too_deep"
    NUL = "nul_character"
    AHEAD = "time_out_of_range"


_DECODER = msgspec.json.Decoder(DecodedEvent)


def decode_event(raw: bytes | None, broker_time: int) -> DecodedEvent | tuple[Unreadable, str]:
    """The event, or why there is none and what exactly is wrong. `broker_time` is µs since the epoch."""
    if not raw:
        return Unreadable.EMPTY, "the record has no value"
    try:
        event = _DECODER.decode(raw)
    except msgspec.ValidationError as error:
        return Unreadable.SCHEMA, str(error)
    except (msgspec.DecodeError, ValueError) as error:  # bytes that are not UTF-8, integers of thousands of digits
        return Unreadable.MALFORMED, str(error)
    except RecursionError:
        return Unreadable.DEPTH, "nested too deeply to be read"
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _is_deep([event.properties, event.context]):
        return Unreadable.DEPTH, f"nested deeper than {MAX_DEPTH}"
    if "\x00" in event.organisation:
        return Unreadable.NUL, "the organisation holds U+0000"
    if event.time > broker_time + MAX_AHEAD:
        return Unreadable.AHEAD, "the event lies more than 24 h ahead of the broker's clock"
    return event


def _is_deep(level: list[Any]) -> bool:
    for _ in range(MAX_DEPTH):
        level = [
            child
            for part in level
            if isinstance(part, dict | list)
            for child in (part.values() if isinstance(part, dict) else part)
        ]
    return any(isinstance(part, dict | list) for part in level)

"""What a caller leaves behind, with as little work as possible, and the event that it becomes on its way."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from secrets import token_hex
from typing import Any, NamedTuple

from shared.clock import to_iso
from tidegate.telemetry.scope import Subject

_ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=str).encode

MAX_DATA = 256 * 1024
"""Characters of `event_data` as JSON: the platform takes no larger events."""


class Note(NamedTuple):
    """`time` is in µs since the epoch. `data` are fields that nobody changes any more, or their JSON."""

    event_type: str
    time: int
    subject: Subject
    data: dict[str, Any] | str


def snapshot(data: dict[str, Any]) -> str:
    """JSON, so that the caller's values may change. Raises ValueError for what is none, or too much."""
    text = _ENCODE(data)
    if len(text) > MAX_DATA:
        raise ValueError(f"event_data has {len(text)} characters as JSON; at most {MAX_DATA} are taken")
    return text


def encoder() -> Callable[[Note], bytes]:
    """Gives each event an id that no other process and no other encoder gives. It raises ValueError as `snapshot`."""
    prefix, numbers = token_hex(12), count()

    def encode(note: Note) -> bytes:
        about, data = note.subject, note.data
        ids = {"job_id": about.job_id, "session_id": about.session_id, "user_id": about.user_id}
        event: dict[str, Any] = {
            "event_id": f"{prefix}-{next(numbers):x}",
            "event_type": note.event_type,
            "event_timestamp": to_iso(note.time),
            **{name: value for name, value in ids.items() if value is not None},
        }
        if about.context is not None:
            event["context"] = about.context.fields
        text = data if isinstance(data, str) else _ENCODE(data)
        return f'{_ENCODE(event)[:-1]},"event_data":{text}}}'.encode()

    return encode

"""When it happened, by a clock that may be wrong: what passed on the client until it sent is what counts."""

from __future__ import annotations

from datetime import datetime

from shared.clock import from_datetime, to_iso

_MILLISECOND = 1_000
_LATEST_MILLISECONDS = 253_402_300_799_000
"""9999-12-31T23:59:59Z"""


def corrected(happened: str, sent_at: object, received_at: int) -> str:
    """`received_at` − (sent_at − happened), or `happened` as it stands if either cannot be read.

    `sent_at` is RFC 3339 text or milliseconds since the epoch, `received_at` is in microseconds UTC.
    """
    at, sent = _moment(happened), _moment(sent_at)
    if at is None or sent is None:
        return happened
    return _text(received_at - (sent - at)) or happened


def before(received_at: int, milliseconds: object) -> str | None:
    """So many milliseconds before `received_at` (µs); None if that says nothing."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        return None
    if not 0 <= milliseconds <= _LATEST_MILLISECONDS:
        return None
    return _text(received_at - int(milliseconds * _MILLISECOND))


def _moment(value: object) -> int | None:
    """Microseconds since the epoch."""
    if isinstance(value, str):
        try:
            return from_datetime(datetime.fromisoformat(value.strip().upper())) if len(value) <= 64 else None
        except (ValueError, OverflowError):
            return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LATEST_MILLISECONDS:
        return int(value * _MILLISECOND)
    return None


def _text(micros: int) -> str | None:
    try:
        return to_iso(micros)
    except OverflowError:
        return None

"""What one attempt to deliver came to, judged from what the receiver said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum

from shared.clock import HOUR, SECOND, from_datetime

MAX_RETRY_AFTER = HOUR / SECOND
"""Seconds: a receiver that asks for more is asked again after this."""
_RETRYABLE_STATUSES = frozenset({408, 425, 429})


class Outcome(Enum):
    DELIVERED = "delivered"
    RETRYABLE = "retryable"
    """Nothing is known to be wrong with the message: another attempt may succeed."""
    PERMANENT = "permanent"
    """The receiver refuses this message: it would refuse it again."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """`detail` is for people and holds no secret; `retry_after` is in seconds, as the receiver asked."""

    outcome: Outcome
    detail: str
    retry_after: float | None = None


def of_http(status: int, retry_after: str | None, *, now: int) -> tuple[Outcome, float | None]:
    """The outcome of an HTTP answer and, where it may be tried again, the seconds that the receiver asked for."""
    if 200 <= status < 300:
        return Outcome.DELIVERED, None
    if status in _RETRYABLE_STATUSES or status >= 500:
        return Outcome.RETRYABLE, seconds_asked(retry_after, now=now)
    return Outcome.PERMANENT, None


def of_smtp(code: int) -> Outcome:
    """The outcome of an SMTP reply: 4xx asks to come again, 5xx refuses; anything odd is worth another attempt."""
    if 200 <= code < 300:
        return Outcome.DELIVERED
    return Outcome.PERMANENT if 500 <= code < 600 else Outcome.RETRYABLE


def seconds_asked(retry_after: str | None, *, now: int) -> float | None:
    """A `Retry-After` header, as seconds or as a date, within 0 … `MAX_RETRY_AFTER`; None for what is neither."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((from_datetime(moment) - now) / SECOND, 0.0), MAX_RETRY_AFTER)

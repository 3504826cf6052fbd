"""What an answer means for the events of the request."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tidegate.telemetry.transport import Answer

_LATER = frozenset({401, 403, 408, 425, 429})
"""A key may come back, or reach the platform later than we do."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """`complaint` is what the platform says of the first invalid event.

    `set_aside` are valid and yet not stored: the platform's rules keep them for somebody to look at, or drop them.
    """

    accepted: int
    invalid: int
    set_aside: int = 0
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """To be sent again as it is, not before `after` seconds."""

    why: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class TooLarge:
    """To be sent again in smaller parts."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Not to be sent again."""

    why: str


Verdict = Delivered | Later | TooLarge | Refused


def verdict_of(answer: Answer, events: int) -> Verdict:
    """Of a request that held so many events."""
    status = answer.status
    if status in (200, 202, 422):
        delivered = _delivered(answer.body, events)
        if delivered is not None:
            return delivered
        return Later("an answer that is none of the platform's") if status != 422 else Refused(f"status {status}")
    if status >= 500 or status in _LATER:
        return Later(f"status {status}", answer.retry_after)
    return TooLarge() if status == 413 else Refused(f"status {status}")


def _delivered(body: bytes, events: int) -> Delivered | None:
    try:
        answer = json.loads(body)
        results = answer["results"]
        accepted = int(answer["accepted"])
        bad = [result for result in results if result["status"] == "invalid"]
        good = sum(result["status"] == "accepted" for result in results)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if len(results) != events or accepted != good:
        return None
    first = bad[0] if bad else {}
    complaint = f"{first.get('reason')}: {first.get('detail')}" if bad else ""
    return Delivered(accepted, len(bad), events - accepted - len(bad), complaint)

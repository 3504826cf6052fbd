"""What the product says about an import before it runs: its priority, its estimate, its stratum."""

from __future__ import annotations

from enum import IntEnum

KIB = 1024
MIB = 1024 * KIB

_SECONDS_BEFORE_RECORDS = 3.0
_UPLOAD_BYTES_PER_SECOND = 1.0 * MIB
_RECORDS_PER_SECOND = 20.0
"""The planning figure behind the estimate a user is shown. It covers analysis, mapping and checks, so that it
says how long an import feels, not how fast COPY is."""

SHORT_MS = 120_000
LONG_MS = 300_000


class Priority(IntEnum):
    """Smaller numbers are served first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


def priority_of(*, size: int, records: int) -> Priority:
    """Small imports first. `size` in bytes."""
    if size < MIB and records < 1000:
        return Priority.HIGH
    if size < 10 * MIB and records < 5000:
        return Priority.NORMAL
    return Priority.LOW


def estimated_duration_ms(*, size: int, records: int) -> int:
    """How long the import will take, in milliseconds, as told to the user."""
    seconds = _SECONDS_BEFORE_RECORDS + size / _UPLOAD_BYTES_PER_SECOND + records / _RECORDS_PER_SECOND
    return round(1000 * seconds)


def stratum_of(estimated_ms: int) -> str:
    """S0's strata: under 2 minutes, 2 to 5, over 5."""
    if estimated_ms < SHORT_MS:
        return "short"
    return "medium" if estimated_ms <= LONG_MS else "long"


def estimated_completion_ms(estimated_ms: int, *, waiting: int, workers: int, mean_job_ms: float) -> int:
    """From now, for a job that joins the queue behind `waiting` others of its priority or better."""
    return estimated_ms + round(waiting * mean_job_ms / max(1, workers))


def retry_delay_seconds(attempt: int) -> float:
    """Before the next try of a job that has failed `attempt` times (from 1)."""
    return min(8.0, 0.25 * 2.0 ** (attempt - 1))

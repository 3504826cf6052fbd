"""Where the HTTP layer puts records, and why they may not be stored."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

Record = tuple[str, bytes]
"""Key and value."""


class Cause(Enum):
    """Why records were not stored; all of them are worth a retry."""

    FULL = "pending_bytes"
    STALE = "pending_age"
    DEADLINE = "ack_deadline"
    PRODUCER = "producer_failed"
    STOPPING = "stopping"


class NotStoredError(Exception):
    """Kafka has not acknowledged the records, some or all of which may be stored nevertheless."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.value)
        self.cause = cause


class EventLog(Protocol):
    """A log that many requests append to at once."""

    def refusal(self) -> Cause | None:
        """Why `append` would refuse at once; None if it would not."""

    async def append(self, records: Sequence[Record]) -> None:
        """Returns when all records are stored, each on `partition_of` its key, in order within a key.

        Raises NotStoredError. Cancelling the call does not take its records back.
        """

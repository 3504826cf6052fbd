"""How much of one connection may wait for Kafka."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Fullness(Enum):
    """What there is enough of, so that nothing more is read."""

    MESSAGES = "messages"
    BYTES = "bytes"


@dataclass(slots=True)
class Window:
    """At most `credit` messages wait, or one that makes them more than `room` bytes."""

    credit: int
    room: int
    messages: int = 0
    bytes: int = 0

    def full(self) -> Fullness | None:
        if self.messages >= self.credit:
            return Fullness.MESSAGES
        return Fullness.BYTES if self.bytes >= self.room else None

    def take(self, size: int) -> None:
        self.messages += 1
        self.bytes += size

    def settle(self, messages: int, size: int) -> None:
        self.messages -= messages
        self.bytes -= size

"""What is sent, in which sizes and how often."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Final

import msgspec

MARK = "#REQUEST####"
"""Stands where the number of the request goes; as long as that number, so that no length changes."""

_USERS: Final = 5_000
_TEXT_BYTES: Final = 1_000_000
_VOCABULARY: Final = 2_000
_WORD: Final = (2, 9)
"""Letters."""


@dataclass(frozen=True, slots=True)
class Range:
    """Sizes between two ends, both included, as many of them below the geometric mean as above."""

    low: int
    high: int

    def at(self, share: float) -> int:
        """The size that `share` (0 to 1) of all sizes lie below."""
        return round(self.low * math.exp(share * math.log(self.high / self.low)))


@dataclass(frozen=True, slots=True)
class Workload:
    """`connections` keep every system busy; `fixed_rate`, in requests/s, is one that every system can hold.

    `event_bytes` is about the size of an event's JSON; None for events as they are, without a long text.
    """

    name: str
    events: Range
    event_bytes: Range | None
    connections: int
    fixed_rate: float

    @property
    def is_batch(self) -> bool:
        return self.events.high > 1


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("single", Range(1, 1), None, 128, 1_000),
        Workload("batch100", Range(100, 100), None, 32, 100),
        Workload("mixed", Range(1, 1_000), Range(200, 20_000), 16, 10),
    )
}


def requests(workload: Workload, count: int, seed: int, now: datetime) -> Iterator[list[bytes]]:
    """The events of `count` requests, each event as JSON; the requests' sizes cover their whole range evenly."""
    draw = Random(seed)
    shares = [(n + 0.5) / count for n in range(count)]
    draw.shuffle(shares)
    text = _text(draw) if workload.event_bytes else ""
    for share in shares:
        yield [_event(n, workload.event_bytes, text, draw, now) for n in range(workload.events.at(share))]


def _event(number: int, size: Range | None, text: str, draw: Random, now: datetime) -> bytes:
    data: dict[str, object] = {
        "importJobId": f"job-{draw.randrange(_USERS)}",
        "variant": draw.choice(("background", "real_time")),
        "totalDuration": round(draw.uniform(10, 60_000), 1),
        "recordsProcessed": draw.randrange(10_000),
    }
    event = {
        "data_source_id": 1,
        "event_id": f"{MARK}-{number:04d}",
        "event_type": draw.choice(("data_import_started", "data_import_completed", "data_import_abandoned")),
        "user_id": f"user-{draw.randrange(_USERS)}",
        "event_data": data,
        "event_timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    if size is not None:
        missing = size.at(draw.random()) - len(msgspec.json.encode(event)) - len(',"log":""')
        if missing > 0:
            start = draw.randrange(_TEXT_BYTES - missing)
            data["log"] = text[start : start + missing]
    return msgspec.json.encode(event)


def _text(draw: Random) -> str:
    """Words of a made-up vocabulary: compressible as logs are, and longer than any compression remembers."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["".join(draw.choices(letters, k=draw.randint(*_WORD))) for _ in range(_VOCABULARY)]
    return " ".join(draw.choices(vocabulary, k=_TEXT_BYTES // min(_WORD)))[:_TEXT_BYTES]

"""What is sent: events as clients send them, prepared so that one more request costs a replacement in its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random

import msgspec

_USERS = 5_000
_TEMPLATES = 64
_MARK = "#REQUEST####"
"""Stands where the number of the request goes; as long as that number, so that no length changes."""


def template(events: int, draw: Random, now: datetime) -> bytes:
    """A body of that many events. A single one is no batch."""
    drawn = [_event(i, draw, now) for i in range(events)]
    return msgspec.json.encode(drawn[0] if events == 1 else {"events": drawn})


def _event(number: int, draw: Random, now: datetime) -> dict[str, object]:
    return {
        "data_source_id": 1,
        "event_id": f"{_MARK}-{number:04d}",
        "event_type": draw.choice(("data_import_started", "data_import_completed", "data_import_abandoned")),
        "user_id": f"user-{draw.randrange(_USERS)}",
        "event_data": {
            "importJobId": f"job-{draw.randrange(_USERS)}",
            "variant": draw.choice(("background", "real_time")),
            "totalDuration": round(draw.uniform(10, 60_000), 1),
            "recordsProcessed": draw.randrange(10_000),
        },
        "event_timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


class Requests:
    """Whole HTTP requests; each has event ids of its own, if no two runs share a `run` (four characters)."""

    def __init__(self, *, host: str, path: str, key: str, events: int, run: str, seed: int) -> None:
        draw, now = Random(seed), datetime.now(UTC)
        self._run = run
        self._prepared: Sequence[bytes] = [
            _request(host, path, key, template(events, draw, now)) for _ in range(_TEMPLATES)
        ]
        self._mark = _MARK.encode()

    def numbered(self, number: int) -> bytes:
        name = f"{self._run}{number:08d}".encode()
        return self._prepared[number % _TEMPLATES].replace(self._mark, name)


def _request(host: str, path: str, key: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tidegate-bench\r\nX-API-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body

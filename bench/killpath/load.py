"""Background load in a process of its own: `python -m bench.killpath.load URL RATE`, the key in its environment.

Sends prebuilt batches through the gateway at RATE events/s, whatever the answers' speed, and tells on its standard
output, one JSON object a line, how many events were accepted so far.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys

import aiohttp
import msgspec

KEY_VARIABLE = "TIDEGATE_BENCH_KEY"
EVENT = "killpath_page_view"
BATCH = 100
_BODIES = 100
_USERS = 20_000
_MAX_UNANSWERED = 64
_TELL_SECONDS = 0.25


class Accepted(msgspec.Struct, frozen=True):
    """By now, `seconds` after the first batch was due."""

    events: int
    refused_batches: int
    seconds: float


_DECODER = msgspec.json.Decoder(Accepted)


def read_line(raw: bytes) -> Accepted:
    """Raises msgspec.MsgspecError."""
    return _DECODER.decode(raw)


def bodies() -> list[bytes]:
    """Batches without event ids and times, so that each sending of them is new to ingest."""
    draw = random.Random(1)
    return [
        msgspec.json.encode(
            {
                "events": [
                    {
                        "event_type": EVENT,
                        "user_id": f"user-{draw.randrange(_USERS)}",
                        "event_data": {
                            "variant": draw.choice(("background", "real_time")),
                            "duration_ms": draw.randrange(10, 5_000),
                            "path": "/imports",
                        },
                    }
                    for _ in range(BATCH)
                ]
            }
        )
        for _ in range(_BODIES)
    ]


class Load:
    """Batches on a fixed schedule; when the answers are slow, at most `_MAX_UNANSWERED` are under way."""

    def __init__(self, session: aiohttp.ClientSession, rate: int) -> None:
        self._session = session
        self._interval = BATCH / rate
        self._unanswered = asyncio.Semaphore(_MAX_UNANSWERED)
        self.accepted = 0
        self.refused_batches = 0

    async def run(self, start: float) -> None:
        """Until cancelled; `start` is by the event loop's clock."""
        loop = asyncio.get_running_loop()
        prepared = itertools.cycle(bodies())
        async with asyncio.TaskGroup() as sending:
            for number in itertools.count():
                await asyncio.sleep(start + number * self._interval - loop.time())
                await self._unanswered.acquire()
                sending.create_task(self._send(next(prepared)))

    async def _send(self, body: bytes) -> None:
        try:
            async with self._session.post("/api/v1/streaming-analytics/events/batch", data=body) as answer:
                if answer.status == 202:
                    self.accepted += msgspec.json.decode(await answer.read(), type=_Answer).accepted
                else:
                    self.refused_batches += 1
        except aiohttp.ClientConnectionError:
            self.refused_batches += 1
        finally:
            self._unanswered.release()


class _Answer(msgspec.Struct):
    accepted: int


async def main(url: str, rate: int, key: str) -> None:
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    async with aiohttp.ClientSession(url, headers=headers, timeout=aiohttp.ClientTimeout(total=30)) as session:
        load, clock = Load(session, rate), asyncio.get_running_loop().time
        start = clock()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run(start))
            while True:
                await asyncio.sleep(_TELL_SECONDS)
                told = Accepted(load.accepted, load.refused_batches, clock() - start)
                sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
                sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), os.environ[KEY_VARIABLE]))

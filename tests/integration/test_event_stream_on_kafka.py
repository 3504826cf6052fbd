"""The WebSocket of the real service on real Kafka: what was acknowledged is in the topic, through restarts."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from services.ingest.websocket import STREAM_PATH
from tests.integration.test_ingest import Ingest, TopicTail, running_ingest
from tests.waiting import eventually


class Streamer:
    """Sends numbered messages of three events, ten ahead of what is acknowledged, until it is told to stop."""

    def __init__(self, user: int) -> None:
        self._user = user
        self._batches: list[list[str]] = []
        self._settled = 0
        self.stopping = False
        self.codes: list[int] = []

    @property
    def acknowledged(self) -> set[str]:
        return {event_id for batch in self._batches[: self._settled] for event_id in batch}

    async def run(self, ingest: Callable[[], Ingest]) -> None:
        """Connects again whenever the connection ends, and goes on behind what was acknowledged."""
        while not self._done():
            try:
                async with connect(
                    _url(ingest()), additional_headers={"X-API-Key": ingest().keys["ingest"]}, open_timeout=5
                ) as client:
                    await client.recv()
                    begin = sent = self._settled
                    while not self._done():
                        while sent < self._settled + 10 and not self.stopping:
                            await client.send(self._message(sent))
                            sent += 1
                        said = json.loads(await client.recv())
                        assert said["type"] == "ack"
                        assert "invalid" not in said
                        self._settled = begin + said["message"]
            except ConnectionClosed as closed:
                self.codes.append(closed.rcvd.code if closed.rcvd else 1006)
            except OSError:
                await asyncio.sleep(0.05)
            except WebSocketException:  # the handshake met a server that was ending or not ready yet
                await asyncio.sleep(0.05)

    def _done(self) -> bool:
        return self.stopping and self._settled == len(self._batches)

    def _message(self, number: int) -> str:
        if number == len(self._batches):
            self._batches.append([str(uuid.uuid4()) for _ in range(3)])
        events = [{"event_type": "a", "event_id": e, "user_id": f"u-{self._user}"} for e in self._batches[number]]
        return json.dumps({"seq": number, "events": events})


def _url(ingest: Ingest) -> str:
    return str(ingest.client.base_url).replace("http://", "ws://").rstrip("/") + STREAM_PATH


async def _progress(streamers: list[Streamer], more: int) -> None:
    goal = sum(len(s.acknowledged) for s in streamers) + more

    async def enough() -> bool:
        return sum(len(s.acknowledged) for s in streamers) >= goal

    await eventually(enough, f"{more} more events are acknowledged")


async def _ends(run: Awaitable[object]) -> None:
    async with asyncio.timeout(30):
        await run


async def test_a_service_that_is_told_to_end_says_so_and_loses_nothing_acknowledged(kafka: str) -> None:
    async with TopicTail.opened(kafka) as topic, running_ingest(kafka) as ingest:
        streamers = [Streamer(user) for user in range(10)]
        running = [asyncio.create_task(streamer.run(lambda: ingest)) for streamer in streamers]
        await _progress(streamers, 500)
        ingest.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(ingest.process.wait(), 20) == 0
        for task in running:
            task.cancel()
        await asyncio.wait(running)

        assert [streamer.codes[:1] for streamer in streamers] == [[1001]] * 10
        stored = {event.event_id for _, event in await topic.events()}
        assert set().union(*(streamer.acknowledged for streamer in streamers)) <= stored


async def test_through_a_kill_every_event_is_stored_and_nothing_that_was_not_sent(kafka: str) -> None:
    async with TopicTail.opened(kafka) as topic:
        streamers = [Streamer(user) for user in range(5)]
        present: list[Ingest] = []
        running: list[asyncio.Task[None]] = []
        for is_killed in (True, False):
            async with running_ingest(kafka) as ingest:
                present[:] = [ingest]
                running = running or [asyncio.create_task(s.run(lambda: present[0])) for s in streamers]
                await _progress(streamers, 300)
                if is_killed:
                    ingest.process.kill()
                    with suppress(ProcessLookupError):
                        await ingest.process.wait()
                    continue
                for streamer in streamers:
                    streamer.stopping = True
                await _ends(asyncio.gather(*running))

        stored = {event.event_id for _, event in await topic.events()}
        assert stored == set().union(*(streamer.acknowledged for streamer in streamers))
        assert all(len(streamer.codes) >= 1 for streamer in streamers)

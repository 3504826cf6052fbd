"""Requests whose bytes are wrong anywhere: each gets an answer with a reason or none; good events count exactly."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator

from shared.clock import system_clock, to_iso
from tests.faults.mutations import corpus, mutated
from tests.faults.progress import Progress
from tests.faults.settings import FaultSettings
from tests.faults.site import Site
from tests.traffic import Ledger, send_batches
from tests.waiting import eventually

GOOD = 200
_TYPE = "good_request"
_CONNECTIONS = 16
_SILENCE = 0.2
_PATIENCE = 60.0
"""Seconds."""
_STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ")


async def test_no_request_ends_ingest_or_is_its_fault_and_good_events_count_exactly(
    site: Site, fault_settings: FaultSettings, progress: Progress
) -> None:
    await site.client.ask("PUT", f"/api/v1/admin/metrics/{_TYPE}", {"type": "count", "event": _TYPE})
    requests = corpus(site.stack.keys["admin"])
    victim = site.victim("ingest")
    before, port = victim.pid(), site.stack.port_of("ingest")
    whole = await asyncio.gather(*(_answer(port, request) for request in requests))
    assert [answer.status for answer in whole if not 200 <= answer.status < 300] == [], "the corpus itself is good"
    hostile = mutated(requests, fault_settings.seed)
    answers = Answers()
    async with asyncio.TaskGroup() as group:
        group.create_task(_send_good(site))
        left = iter(range(fault_settings.requests))
        for _ in range(_CONNECTIONS):
            group.create_task(_send(port, hostile, requests[0], left, answers))
    progress.say(f"{fault_settings.requests:,} mutated requests: {answers.statuses.most_common()}")
    assert answers.faults == []
    assert sum(answers.statuses.values()) - answers.statuses[0] > fault_settings.requests / 2
    assert (victim.pid(), victim.is_ready()) == (before, True)
    await eventually(lambda: _counted(site), "the good events are counted, and once")


class Answers:
    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        """0: the connection was closed, or nothing came: the server waits for the rest."""
        self.faults: list[tuple[bytes, bytes]] = []
        """Requests whose answers are the server's fault or say no reason, with those answers."""

    def add(self, request: bytes, answer: Answer) -> None:
        self.statuses[answer.status] += 1
        if answer.status >= 500 or (answer.status >= 400 and not answer.has_reason()):
            self.faults.append((request, answer.raw))


class Answer:
    """The first answer of a connection."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        found = _STATUS.match(raw)
        self.status = int(found[1]) if found else 0

    def has_reason(self) -> bool:  # of what is no HTTP at all, the server's parser says so in a word
        head, _, body = self.raw.partition(b"\r\n\r\n")
        if b"application/problem+json" not in head.lower():
            return self.status == 400 and body.startswith(b"Invalid HTTP request")
        content = json.loads(body[: _length(head)])
        return isinstance(content["reason"], str) and content["status"] == self.status


def _length(head: bytes) -> int:
    found = re.search(rb"\r\ncontent-length: ([0-9]+)", head.lower())
    assert found is not None, head
    return int(found[1])


async def _send(port: int, hostile: Iterator[bytes], probe: bytes, left: Iterator[int], answers: Answers) -> None:
    for _ in left:
        request = next(hostile)
        answers.add(request, await _answer(port, request, probe))


async def _answer(port: int, request: bytes, probe: bytes | None = None) -> Answer:
    """To what is sent. Nothing comes if the server waits for the rest: it does if it has answered a later `probe`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    receiving = asyncio.create_task(_received(reader))
    try:
        writer.write(request)
        if probe is not None and not await _is_done(receiving):
            await _answer(port, probe)
            if not await _is_done(receiving):
                return Answer(b"")
        async with asyncio.timeout(_PATIENCE):
            return Answer(await receiving)
    finally:
        receiving.cancel()
        writer.transport.abort()


async def _is_done(receiving: asyncio.Task[bytes]) -> bool:
    return bool((await asyncio.wait({receiving}, timeout=_SILENCE))[0])


async def _received(reader: asyncio.StreamReader) -> bytes:
    """A whole answer, or as much as there is before the connection ends."""
    head = b""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        return head + (await reader.readexactly(_length(head)) if b"content-length" in head.lower() else b"")
    except (ConnectionError, asyncio.IncompleteReadError):
        return head


async def _send_good(site: Site) -> None:
    ids = [f"good-request-{n}" for n in range(GOOD)]
    now = to_iso(system_clock())
    events = [{"event_type": _TYPE, "event_id": id, "user_id": id, "event_timestamp": now} for id in ids]
    ledger = Ledger()
    batches = [events[at : at + 5] for at in range(0, GOOD, 5)]
    await send_batches(site.stack.gateway, site.stack.keys["ingest"], batches, ledger, clients=2, resend=0.1)
    assert ledger.acknowledged == set(ids)


async def _counted(site: Site) -> bool:
    found = (await site.reader.totals(_TYPE))["value"]
    assert found["counted"] <= GOOD, found
    return found["counted"] == GOOD

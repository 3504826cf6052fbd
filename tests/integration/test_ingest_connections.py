"""What HTTP/1.1 lets clients do with a connection: answers stay whole and in order, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from services.ingest.http import BATCH_PATH, EVENT_PATH
from tests.integration.test_ingest import Ingest, TopicTail, running_ingest
from tests.unit.ingest.encodings import ENCODINGS
from tests.waiting import eventually


@pytest_asyncio.fixture(scope="module")
async def ingest(kafka: str) -> AsyncIterator[Ingest]:
    async with running_ingest(kafka) as running:
        yield running


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """Bytes to ingest, answers back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *requests: bytes) -> None:
        self._writer.write(b"".join(requests))
        await self._writer.drain()

    async def answer(self, *, to_head: bool = False) -> Answer:
        async with asyncio.timeout(20):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            length = 0 if to_head else int(headers.get("content-length", 0))
            return Answer(int(head[0].split()[1]), headers, await self._reader.readexactly(length))

    async def answers(self, count: int) -> list[Answer]:
        return [await self.answer() for _ in range(count)]

    async def is_ended(self) -> bool:
        async with asyncio.timeout(20):
            return await self._reader.read() == b""


@asynccontextmanager
async def connected(ingest: Ingest) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(ingest.client.base_url.host, ingest.client.base_url.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


def head(ingest: Ingest, *lines: str, method: str = "POST", path: str = EVENT_PATH, key: str | None = None) -> bytes:
    sent = (f"{method} {path} HTTP/1.1", "Host: ingest", f"X-API-Key: {key or ingest.keys['ingest']}", *lines)
    return "\r\n".join(sent).encode() + b"\r\n\r\n"


def request(ingest: Ingest, body: bytes, *lines: str, **more: str) -> bytes:
    described = ("Content-Type: application/json", f"Content-Length: {len(body)}", *lines)
    return head(ingest, *described, **more) + body


def chunked(ingest: Ingest, body: bytes, *lines: str, path: str = EVENT_PATH, size: int = 7) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return head(ingest, "Transfer-Encoding: chunked", *lines, path=path) + chunks


def event(event_id: str) -> bytes:
    return json.dumps({"event_type": "user_action", "event_id": event_id}).encode()


async def test_requests_sent_ahead_are_answered_in_order(ingest: Ingest, kafka: str) -> None:
    ids = [str(uuid.uuid4()) for _ in range(60)]
    kinds = [
        lambda body: request(ingest, body),
        lambda body: request(ingest, gzip.compress(body), "Content-Encoding: gzip"),
        lambda body: chunked(ingest, body),
        lambda body: request(ingest, body, "Expect: 200-something"),
        lambda body: request(ingest, body, key="unknown"),
        lambda body: request(ingest, body, method="PUT"),
    ]
    async with TopicTail.opened(kafka) as topic, connected(ingest) as connection:
        await connection.send(*[kinds[n % 6](event(event_id)) for n, event_id in enumerate(ids)])
        answers = await connection.answers(len(ids))

        assert [answer.status for answer in answers] == [202, 202, 202, 202, 401, 405] * 10
        accepted = [answer.json()["event_id"] for answer in answers if answer.status == 202]
        assert accepted == [event_id for n, event_id in enumerate(ids) if n % 6 < 4]
        assert sorted(stored.event_id for _, stored in await topic.events()) == sorted(accepted)


async def test_a_refused_request_leaves_the_connection_usable(ingest: Ingest) -> None:
    refused = {
        b"{": 400,
        b'{"event_type":""}': 422,
    }
    async with connected(ingest) as connection:
        for body, status in refused.items():
            await connection.send(request(ingest, body))
            assert (await connection.answer()).status == status
        await connection.send(request(ingest, b"x", "Content-Encoding: unknown"))
        assert (await connection.answer()).headers["accept-encoding"] == "gzip, deflate, zstd, br"
        await connection.send(head(ingest, method="HEAD"), head(ingest, method="OPTIONS"))
        assert (await connection.answer(to_head=True)).headers["allow"] == "POST"
        assert (await connection.answer()).headers["allow"] == "POST"
        await connection.send(request(ingest, event("kept-alive")))
        assert (await connection.answer()).json()["event_id"] == "kept-alive"


async def test_a_body_is_asked_for_only_if_the_request_may_pass(ingest: Ingest) -> None:
    body = event(str(uuid.uuid4()))
    expecting = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Expect: 100-continue")
    async with connected(ingest) as connection:
        await connection.send(head(ingest, *expecting))
        assert (await connection.answer()).status == 100
        await connection.send(body)
        assert (await connection.answer()).status == 202
        await connection.send(head(ingest, *expecting, key="unknown"))
        assert (await connection.answer()).status == 401
    async with connected(ingest) as connection:
        await connection.send(head(ingest, "Content-Length: 1000000000", "Expect: 100-continue"))
        assert (await connection.answer()).status == 413
        assert await connection.is_ended()


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "TLS/1.0"])
async def test_a_request_that_would_rather_speak_another_protocol_is_served(ingest: Ingest, upgrade: str) -> None:
    """Java's client asks for h2c in the first request of every connection, whatever its body."""
    asking = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", "HTTP2-Settings: AAMAAABk")
    async with connected(ingest) as connection:
        await connection.send(
            request(ingest, event("before")),
            request(ingest, event("asking"), *asking),
            chunked(ingest, event("asking in chunks"), *asking),
            request(ingest, event("behind")),
        )
        answers = await connection.answers(4)

    assert [answer.json()["event_id"] for answer in answers] == ["before", "asking", "asking in chunks", "behind"]


async def test_what_is_no_http_is_refused_after_the_requests_before_it(ingest: Ingest) -> None:
    broken = (
        b"garbage\r\n\r\n",
        head(ingest, "Transfer-Encoding: chunked") + b"zz\r\n{}\r\n",
        request(ingest, b"{}", "Transfer-Encoding: chunked"),
        b"CONNECT elsewhere:80 HTTP/1.1\r\nHost: elsewhere\r\n\r\n",
    )
    for bytes_sent in broken:
        for ahead in range(3):
            async with connected(ingest) as connection:
                await connection.send(*[request(ingest, event(f"e-{n}")) for n in range(ahead)], bytes_sent)
                answers = await connection.answers(ahead + 1)
                assert [answer.status for answer in answers] == [202] * ahead + [400]
                assert answers[-1].headers["content-type"] == "application/problem+json"
                assert answers[-1].json()["reason"] == "malformed_request"
                assert await connection.is_ended()


async def test_clients_that_go_away_in_the_middle_leave_nothing_behind(ingest: Ingest, kafka: str) -> None:
    whole = request(ingest, event("half-sent"))
    lines = chunked(ingest, event("line"), "Content-Type: application/x-ndjson", path=BATCH_PATH)
    before = _open_files(ingest)
    async with TopicTail.opened(kafka) as topic:
        for sent in (whole[:-1], whole[: len(whole) // 2], lines[:-5], lines[: len(lines) // 2], b"POST "):
            for _ in range(20):
                async with connected(ingest) as connection:
                    await connection.send(sent)

        async def all_closed() -> bool:
            return _open_files(ingest) <= before

        await eventually(all_closed, "the connections are closed")
        await ingest.send(EVENT_PATH, event("afterwards"))
        assert [stored.event_id for _, stored in await topic.events()] == ["afterwards"]


def _open_files(ingest: Ingest) -> int:
    return len(os.listdir(f"/proc/{ingest.process.pid}/fd"))


async def test_bytes_changed_at_random_never_make_it_fail(ingest: Ingest) -> None:
    chance = random.Random(6)
    batch = b'{"events":[' + b",".join(event(f"fuzz-{n}") for n in range(5)) + b"]}"
    lines = b"\n".join(event(f"line-{n}") for n in range(5))
    sound: Sequence[bytes] = [
        request(ingest, batch, path=BATCH_PATH),
        chunked(ingest, lines, "Content-Type: application/x-ndjson", path=BATCH_PATH),
        *[
            request(ingest, encode(event("fuzz")), f"Content-Encoding: {coding.value}", "Idempotency-Key: k")
            for coding, encode in ENCODINGS.values()
        ],
    ]
    statuses = set()
    for _ in range(600):
        bytes_sent = bytearray(chance.choice(sound))
        for _ in range(chance.randint(1, 5)):
            bytes_sent[chance.randrange(len(bytes_sent))] = chance.randrange(256)
        async with connected(ingest) as connection:
            # What makes the request longer than what was sent is cut short by the next one.
            await connection.send(bytes(bytes_sent), b"\r\n\r\n0\r\n\r\n" * 2_000)
            statuses.add((await connection.answer()).status)

    assert statuses & {202, 400}
    assert not {status for status in statuses if status >= 500}
    assert (await ingest.send(EVENT_PATH, event("still there"))).status_code == 202

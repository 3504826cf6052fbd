"""Reading a request's body: whole or in parts, encoded or not, quick or slow."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import Iterable, MutableMapping
from typing import Any

import pytest

from services.ingest.bodies import INLINE_BYTES, BodyLimits, BodyReader, read_parts
from shared.http import AsgiScope, Problem, Receive
from tests.unit.ingest.encodings import ENCODINGS, Encode
from tests.unit.ingest.fakes import until


def scope(**headers: str) -> AsgiScope:
    return {"headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]}


def receiving(parts: Iterable[bytes], *, ends: bool = True) -> Receive:
    """ASGI messages with `parts`; without an end the client goes away."""
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": True} for part in parts
    ]
    if ends:
        messages[-1]["more_body"] = False
    waiting = iter(messages)

    async def receive() -> MutableMapping[str, Any]:
        return next(waiting, {"type": "http.disconnect"})

    return receive


async def read(asked: AsgiScope, receive: Receive, limits: BodyLimits | None = None) -> bytes:
    found: list[bytes] = []

    async def keep(body: bytes) -> None:
        found.append(body)

    await BodyReader(limits).read(asked, receive, keep)
    (body,) = found
    return body


BODY = b'{"events":[' + random.Random(6).randbytes(100_000).hex().encode() * 4 + b"]}"


@pytest.mark.parametrize("encode", [encode for _, encode in ENCODINGS.values()], ids=ENCODINGS)
@pytest.mark.parametrize("size", [50, 5_000, len(BODY)])
async def test_a_body_is_read_whole_and_decoded(encode: Encode, size: int) -> None:
    coding = next(coding for coding, made in ENCODINGS.values() if made is encode)
    body = BODY[:size]
    encoded = encode(body)
    middle = len(encoded) // 2
    asked = scope(content_encoding=coding.value)

    for parts in ([encoded], [encoded[:middle], encoded[middle:]], [b"", encoded, b""]):
        assert await read(asked, receiving(parts)) == body
        assert b"".join([part async for part in read_parts(asked, receiving(parts), limit=len(body))]) == body


async def test_a_body_without_encoding_stays_as_it_is() -> None:
    assert await read(scope(), receiving([b"\x1f\x8b", b"raw"])) == b"\x1f\x8braw"
    assert [part async for part in read_parts(scope(), receiving([b"a", b"b"]), limit=1)] == [b"a", b"b"]


async def test_other_requests_go_on_while_a_large_body_is_decoded() -> None:
    """The event loop turns many times meanwhile; decoding in one go would let it turn once or twice."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    body = gzip.compress(BODY * 8)
    beside = asyncio.create_task(others())
    try:
        assert len(await read(scope(content_encoding="gzip"), receiving([body]))) > 10 * INLINE_BYTES
    finally:
        beside.cancel()
    assert turns > 20


@pytest.mark.parametrize(
    ("headers", "body", "status", "reason"),
    [
        ({"content_encoding": "lzma"}, b"{}", 415, "unsupported_content_encoding"),
        ({"content_encoding": "gzip"}, b"{}", 400, "undecodable_body"),
        ({"content_encoding": "gzip"}, b"", 400, "undecodable_body"),
        ({"content_encoding": "gzip"}, gzip.compress(b"0" * 1001), 413, "body_too_large"),
    ],
    ids=["unknown encoding", "not encoded", "empty", "too large"],
)
async def test_what_cannot_be_decoded_is_a_problem(
    headers: dict[str, str], body: bytes, status: int, reason: str
) -> None:
    with pytest.raises(Problem) as whole:
        await read(scope(**headers), receiving([body]), BodyLimits(decoded=1000))
    with pytest.raises(Problem) as parts:
        [part async for part in read_parts(scope(**headers), receiving([body]), limit=1000)]

    for problem in (whole.value, parts.value):
        assert (problem.status, problem.reason) == (status, reason)
        assert problem.headers == ({"Accept-Encoding": "gzip, deflate, zstd, br"} if status == 415 else {})


async def test_a_client_that_goes_away_in_the_middle_has_sent_no_body() -> None:
    with pytest.raises(Problem) as problem:
        await read(scope(), receiving([b"{", b'"a"'], ends=False))
    assert problem.value.reason == "disconnected"


async def test_a_body_that_stops_coming_is_not_waited_for() -> None:
    begun = receiving([b"{"], ends=False)
    first = True

    async def receive() -> MutableMapping[str, Any]:
        nonlocal first
        if first:
            first = False
            return await begun()
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(Problem) as problem:
        await read(scope(), receive, BodyLimits(pause=0.01))
    assert (problem.value.status, problem.value.reason) == (408, "body_timeout")
    assert problem.value.headers == {"Connection": "close"}


class Work:
    """What is done with bodies: nothing, until it is allowed to end."""

    def __init__(self) -> None:
        self.at_once = 0
        self.most_at_once = 0
        self.done: list[int] = []
        self.may_end = asyncio.Event()

    async def __call__(self, body: bytes) -> None:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await self.may_end.wait()
        self.at_once -= 1
        self.done.append(len(body))


LARGE = b" " * (INLINE_BYTES + 1)


@pytest.mark.parametrize("encoded", [False, True])
async def test_only_a_few_large_bodies_are_worked_on_at_a_time(encoded: bool) -> None:
    reader, work = BodyReader(BodyLimits(at_once=2)), Work()
    asked = scope(content_encoding="gzip") if encoded else scope()
    body = gzip.compress(LARGE) if encoded else LARGE
    requests = [asyncio.create_task(reader.read(asked, receiving([body]), work)) for _ in range(6)]
    small = asyncio.create_task(reader.read(scope(), receiving([b"{}"]), work))
    await until(lambda: work.at_once == 3)

    work.may_end.set()
    await asyncio.gather(*requests, small)

    assert sorted(work.done) == [2] + 6 * [len(LARGE)]
    assert work.most_at_once == 3, "two large ones, and the small one that passed them"


async def test_a_large_body_waits_for_its_turn_no_longer_than_it_should() -> None:
    reader, work = BodyReader(BodyLimits(at_once=1, turn=0.01)), Work()
    first = asyncio.create_task(reader.read(scope(), receiving([LARGE]), work))
    await until(lambda: work.at_once == 1)

    with pytest.raises(Problem) as refused:
        await reader.read(scope(), receiving([LARGE]), work)
    assert (refused.value.status, refused.value.reason) == (503, "overloaded")

    work.may_end.set()
    await first
    await reader.read(scope(), receiving([LARGE]), work)
    assert work.done == 2 * [len(LARGE)]


async def test_bodies_that_come_in_share_what_room_there_is() -> None:
    reader, work = BodyReader(BodyLimits(room=1_000)), Work()
    first = asyncio.create_task(reader.read(scope(), receiving([b"", b"x" * 900]), work))
    await until(lambda: work.at_once == 1)

    with pytest.raises(Problem) as refused:
        await reader.read(scope(), receiving([b"", b"x" * 90, b"x" * 90]), work)
    assert (refused.value.status, list(refused.value.headers)) == (503, ["Retry-After"])

    work.may_end.set()
    await first
    await reader.read(scope(), receiving([b"", b"x" * 900]), work)
    with pytest.raises(Problem, match="went away"):
        await reader.read(scope(), receiving([b"", b"x" * 900], ends=False), work)
    await reader.read(scope(), receiving([b"", b"x" * 1_000]), work)
    assert work.done == [900, 900, 1_000]

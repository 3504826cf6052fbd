"""Clients that begin a request, or only connect, and then say nothing."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest

from shared.http import AsgiScope, Receive, Send, Server, read_body, send_response
from tests.waiting import eventually

SILENCE = 1.5


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Answers each request, at `/slow` after longer than a client may be silent."""

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        if scope["path"] == "/slow":
            await asyncio.sleep(2 * SILENCE)
        await send_response(send, 200, b"%d" % len(body))

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free: int = probe.getsockname()[1]
    server = Server(app, host="127.0.0.1", port=free, silence=SILENCE)
    serving = asyncio.create_task(server.run())

    async def listens() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", free)) == 0

    await eventually(listens, "the server listens")
    yield free
    server.stop()
    await serving


async def _answered(port: int, *said: bytes, pause: float = 0.0) -> bytes:
    """Everything that is answered until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in said:
            writer.write(part)
            await asyncio.sleep(pause)
        async with asyncio.timeout(15):
            return await reader.read()
    finally:
        writer.close()


_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"


@pytest.mark.parametrize("said", [[_HEAD + b"\r\n"], [_HEAD + b"\r\n", b"12345"]], ids=["no body", "half of a body"])
async def test_who_owes_a_body_is_told_that_it_did_not_come(port: int, said: list[bytes]) -> None:
    answer = await _answered(port, *said)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head
    assert json.loads(body)["reason"] == "request_timeout"


@pytest.mark.parametrize("said", [[], [_HEAD]], ids=["nothing", "half of a head"])
async def test_who_does_not_even_ask_is_given_up(port: int, said: list[bytes]) -> None:
    assert await _answered(port, *said) == b""


async def test_half_a_head_after_a_whole_request_is_given_up_too(port: int) -> None:
    answer = await _answered(port, _HEAD + b"\r\n1234567890", b"POST / HT", pause=0.2)
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_who_sends_slowly_but_steadily_is_waited_for(port: int) -> None:
    head = _HEAD.replace(b"10", b"3") + b"Connection: close\r\n\r\n"
    answer = await _answered(port, head, b"1", b"2", b"3", pause=SILENCE * 0.6)
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_who_waits_for_a_slow_answer_is_not_silent(port: int) -> None:
    answer = await _answered(port, b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_request_that_waited_for_the_one_before_has_as_long_for_its_rest(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" + _HEAD + b"\r\n12345")
    async with asyncio.timeout(15):
        assert (await reader.readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200 ")
        await asyncio.sleep(1.2)  # clients are looked at once a second
        writer.write(b"67890")
        assert (await reader.readuntil(b"\r\n\r\n10")).startswith(b"HTTP/1.1 200 ")
    writer.close()

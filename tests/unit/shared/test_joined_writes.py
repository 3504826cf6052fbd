"""Head and body of an answer leave together, and nothing waits for what does not come."""

from __future__ import annotations

import asyncio

from shared.joined_writes import JoinedWrites

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def _joined() -> tuple[Wire, JoinedWrites]:
    wire = Wire()
    return wire, JoinedWrites(wire, asyncio.get_running_loop())


async def test_a_head_leaves_with_its_body() -> None:
    wire, joined = _joined()
    joined.write(HEAD)
    joined.write(b"ok")
    joined.write(HEAD)
    joined.write(b"no")
    await asyncio.sleep(0)
    assert wire.writes == [HEAD + b"ok", HEAD + b"no"]


async def test_a_head_whose_body_comes_later_does_not_wait_for_it() -> None:
    wire, joined = _joined()
    joined.write(HEAD)
    await asyncio.sleep(0)
    assert wire.writes == [HEAD]
    joined.write(b"ok")
    assert wire.writes == [HEAD, b"ok"]


async def test_two_heads_keep_their_order() -> None:
    wire, joined = _joined()
    joined.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    joined.write(HEAD)
    joined.write(b"ok")
    await asyncio.sleep(0)
    assert b"".join(wire.writes) == b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"ok"


async def test_a_head_is_sent_before_the_connection_is_closed() -> None:
    wire, joined = _joined()
    joined.write(HEAD)
    joined.close()
    assert (wire.writes, wire.closed, joined.is_closing()) == ([HEAD], True, True)

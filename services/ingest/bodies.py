"""Request bodies as their senders meant them: read whole or part by part, with their Content-Encoding undone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.ingest.domain.content_encoding import (
    ACCEPTED_CODINGS,
    Coding,
    Decoding,
    EncodedBodyError,
    EncodingFault,
    codings_of,
)
from shared.http import MAX_BODY, AsgiScope, Problem, Receive, unavailable

INLINE_BYTES = 256 * 1024
"""What becomes larger is decoded in a thread: to here it takes about a millisecond, which others can wait."""
SMALL_BYTES = 32 * 1024
"""What is no larger is worked on at once, however many there are."""
_PER_PIECE = 1024
"""A piece takes time even if it is empty; it counts as so many bytes more."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    decoded: int = MAX_BODY
    """Bytes of one body after decoding."""
    room: int = 32 * 1024 * 1024
    """Bytes that all bodies together may take while they come in."""
    at_once: int = 4
    """So many large ones are decoded and worked on at a time: what is made of one takes several times its size."""
    medium_at_once: int = 12
    """So many of those in between are worked on at a time."""
    turn: float = 5.0
    """Seconds that a large or medium one waits for its turn."""
    pause: float = 30.0
    """Seconds for which a body that has begun may stop coming."""


class BodyReader:
    """Reads bodies whole, and keeps what large ones take of the memory within bounds, however many come at once."""

    def __init__(self, limits: BodyLimits | None = None) -> None:
        self._limits = limits or BodyLimits()
        self._room = self._limits.room
        self._turns = asyncio.Semaphore(self._limits.at_once)
        self._medium_turns = asyncio.Semaphore(self._limits.medium_at_once)

    async def read(self, scope: AsgiScope, receive: Receive, work: Callable[[bytes], Awaitable[None]]) -> None:
        """Does `work` with the body, decoded.

        Raises Problem 400 for what cannot be decoded, 408 for what stops coming, 413 for what becomes too large, 415
        for an unknown encoding, 503 if large bodies take all there is for them. The limit on the bytes as they are
        sent has been applied outside.
        """
        codings = _codings_of(scope)
        message = await receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body"):
            await self._decoded(body, codings, work)
            return
        parts = [body]
        held = 0
        try:
            async for part in _rest(receive, self._limits.pause):
                if len(part) > self._room:
                    raise unavailable("too many large bodies come in; send again later", reason="overloaded")
                self._room -= len(part)
                held += len(part)
                parts.append(part)
            body = b"".join(parts)
            parts.clear()
            await self._decoded(body, codings, work)
        finally:
            self._room += held

    async def _decoded(
        self, body: bytes, codings: Sequence[Coding], work: Callable[[bytes], Awaitable[None]]
    ) -> None:
        if codings:
            pieces = Decoding(codings, self._limits.decoded).whole(body)
            first, is_all = _first_of(pieces)
            if is_all:
                await self._worked_on(b"".join(first), work)
                return
            async with self._turn(self._turns):
                await work(b"".join(first + await _others_of(pieces)))
        else:
            await self._worked_on(body, work)

    async def _worked_on(self, body: bytes, work: Callable[[bytes], Awaitable[None]]) -> None:
        if len(body) <= SMALL_BYTES:
            await work(body)
            return
        async with self._turn(self._medium_turns if len(body) <= INLINE_BYTES else self._turns):
            await work(body)

    @asynccontextmanager
    async def _turn(self, turns: asyncio.Semaphore) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._limits.turn):
                await turns.acquire()
        except TimeoutError:
            raise unavailable("too many large bodies are at work; send again later", reason="overloaded") from None
        try:
            yield
        finally:
            turns.release()


async def read_parts(scope: AsgiScope, receive: Receive, *, limit: int) -> AsyncGenerator[bytes, None]:
    """The body in decoded parts of at most 4 MB, each decoded only when it is asked for.

    Raises Problem 400, 408, 413 or 415 as `BodyReader.read` does, perhaps after some parts.
    """
    decoding = Decoding(_codings_of(scope), limit)
    message = await receive()
    try:
        for piece in decoding.feed(message.get("body", b"")):
            yield piece
        if message.get("more_body"):
            async for part in _rest(receive, BodyLimits().pause):
                for piece in decoding.feed(part):
                    yield piece
        decoding.end()
    except EncodedBodyError as error:
        raise _problem(error) from None


async def _rest(receive: Receive, pause: float) -> AsyncIterator[bytes]:
    more = True
    while more:
        try:
            async with asyncio.timeout(pause):
                message = await receive()
        except TimeoutError:
            detail = f"nothing of the body has come for {pause:g} seconds"
            raise Problem(408, "body_timeout", detail, headers={"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise Problem(400, "disconnected", "the client went away before the end of the body")
        more = message.get("more_body", False)
        yield message.get("body", b"")


def _codings_of(scope: AsgiScope) -> tuple[Coding, ...]:
    """How the body is encoded. Raises Problem 415."""
    try:
        return codings_of(scope["headers"])
    except EncodedBodyError as error:
        raise _problem(error) from None


async def decoded(body: bytes, codings: Sequence[Coding], *, limit: int = MAX_BODY) -> bytes:
    """`body` with `codings`, given in the order in which they were applied, undone. Raises Problem 400 or 413."""
    pieces = Decoding(codings, limit).whole(body)
    first, is_all = _first_of(pieces)
    return b"".join(first if is_all else first + await _others_of(pieces))


def _first_of(pieces: Iterator[bytes]) -> tuple[list[bytes], bool]:
    """As many as do not take long, and whether these are all."""
    first: list[bytes] = []
    size = 0
    try:
        for piece in pieces:
            first.append(piece)
            size += len(piece) + _PER_PIECE
            if size > INLINE_BYTES:
                return first, False
    except EncodedBodyError as error:
        raise _problem(error) from None
    return first, True


async def _others_of(pieces: Iterator[bytes]) -> list[bytes]:
    """A thread does the work, and other requests go on."""
    try:
        return await asyncio.to_thread(list, pieces)
    except EncodedBodyError as error:
        raise _problem(error) from None


def _problem(error: EncodedBodyError) -> Problem:
    """The answer to a body that cannot be decoded."""
    return Problem(
        _STATUS[error.fault],
        error.fault.value,
        str(error),
        headers={"Accept-Encoding": ACCEPTED_CODINGS} if error.fault is EncodingFault.UNSUPPORTED else None,
    )


_STATUS = {EncodingFault.UNSUPPORTED: 415, EncodingFault.UNDECODABLE: 400, EncodingFault.TOO_LARGE: 413}

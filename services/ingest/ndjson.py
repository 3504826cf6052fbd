"""Newline-delimited JSON in: an event a line, from a few to a file that is larger than what may be in memory.

    body ──► parts ──► lines ──► a piece of them ──► Intake.take ──► verdicts
               ▲                                        │
               └────── the next is read when ───────────┘ Kafka has this one

So an upload that breaks has been taken in up to a line, which the answer names, and goes on from there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs

import msgspec

from services.ingest.bodies import read_parts
from services.ingest.domain.batch_body import BatchFault
from services.ingest.domain.idempotency import KeyedIds
from services.ingest.domain.lines import Line, Lines
from services.ingest.domain.normalise import MAX_EVENT_BYTES, Reason, Rejected, read_event
from services.ingest.domain.upload import MAX_INVALID, Upload
from services.ingest.intake import EVENTS_PER_TURN, Given, Intake, Sender
from shared.http import AsgiScope, Problem, Receive, Send, send_response, unavailable

MEDIA_TYPES = frozenset(
    f"application/{prefix}{name}".encode() for prefix in ("", "x-") for name in ("ndjson", "jsonl", "jsonlines")
)
MAX_FILE = 100 * 1024 * 1024
"""Bytes, as they are sent and after decoding."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    file: int = MAX_FILE
    """Bytes after decoding."""
    lines: int = 1_000_000
    """Events that one answer may be waited for; they are some 20 seconds of work."""
    uploads: int = 32
    """So many long ones at a time, for each may take some MB: its piece, and what undoes its encoding."""
    piece_seconds: float = 60.0
    """In which each further piece of a long one must come, so that slow ones do not take all places."""


_LONG = 1024 * 1024
_PIECE_LINES = 2_000
_PIECE_BYTES = 512 * 1024
_PATIENCE = 5.0
"""Seconds for which an upload is held up when its key has sent enough. If it would take longer, it ends."""
_PIECES_AT_ONCE = 8
"""What is made of a piece takes several times its size."""
_CUT_AT_A_TIME = 64 * 1024
"""What a part is cut into lines by: all of them could be two bytes long."""


class LineRoute:
    """What `POST …/events/batch` does with newline-delimited JSON."""

    def __init__(self, intake: Intake, limits: UploadLimits) -> None:
        self._intake = intake
        self._limits = limits
        self._turns = asyncio.Semaphore(_PIECES_AT_ONCE)
        self._long_uploads = 0

    async def __call__(
        self, scope: AsgiScope, receive: Receive, send: Send, sender: Sender, ids: KeyedIds | None
    ) -> None:
        """Raises Problem; one that comes after the first line has been stored says how far the upload came."""
        upload = Upload(_first_line(scope))
        sender = self._intake.arriving(sender)
        try:
            self._intake.check_room(sender, patience=_PATIENCE)
            if _is_said_to_be_long(scope):
                self._check_free()
            async with aclosing(read_parts(scope, receive, limit=self._limits.file)) as parts:
                await self._take_in(_pieces(parts, upload.next_line), upload, sender, ids)
        except Problem as problem:
            extra = {**problem.extra, **upload.answer()}
            raise Problem(
                problem.status, problem.reason, problem.detail, headers=problem.headers, extra=extra
            ) from None
        await send_response(send, 202, msgspec.json.encode(upload.answer()))

    async def _take_in(
        self, pieces: AsyncIterator[Sequence[Line]], upload: Upload, sender: Sender, ids: KeyedIds | None
    ) -> None:
        with ExitStack() as place:
            taken = 0
            while piece := await self._next(pieces, None if taken < 2 else self._limits.piece_seconds):
                if taken == 1:
                    place.enter_context(self._place())  # only now it is certain that it is a long one
                async with self._intake.within_limit(sender, len(piece), patience=_PATIENCE) as charged, self._turns:
                    verdicts = await self._intake.take(await _given(piece, ids), charged)
                upload.add(piece, verdicts)
                taken += 1
                self._check(upload)
        if not taken:
            raise Problem(422, BatchFault.EMPTY.value, "there is no line that is not blank")
        if upload.invalid == upload.events:
            raise Problem(422, "no_event_accepted", "every event of the upload is invalid")

    async def _next(self, pieces: AsyncIterator[Sequence[Line]], seconds: float | None) -> Sequence[Line] | None:
        """None after the last. Raises Problem 408 for one that does not come in time."""
        try:
            async with asyncio.timeout(seconds):
                return await anext(pieces, None)
        except TimeoutError:
            detail = "an upload this slow would keep others out; go on from next_line"
            raise Problem(408, "upload_too_slow", detail, headers={"Connection": "close"}) from None

    def _check(self, upload: Upload) -> None:
        if upload.invalid > MAX_INVALID:
            detail = f"more than {MAX_INVALID} lines are invalid; the rest has not been read"
            raise Problem(422, "too_many_invalid_lines", detail)
        if upload.events > self._limits.lines:
            detail = f"an upload may have at most {self._limits.lines} events; go on from next_line"
            raise Problem(413, "upload_too_long", detail)

    def _check_free(self) -> None:
        if self._long_uploads >= self._limits.uploads:
            detail = f"{self._limits.uploads} long uploads are under way; send again later"
            raise unavailable(detail, reason="overloaded")

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of those for long uploads."""
        self._check_free()
        self._long_uploads += 1
        try:
            yield
        finally:
            self._long_uploads -= 1


async def _pieces(parts: AsyncIterator[bytes], first_line: int) -> AsyncGenerator[Sequence[Line], None]:
    lines = Lines(keep=MAX_EVENT_BYTES + 1, first=first_line)
    piece: list[Line] = []
    size = 0
    async for part in parts:
        for start in range(0, len(part), _CUT_AT_A_TIME):
            for line in lines.feed(part[start : start + _CUT_AT_A_TIME]):
                piece.append(line)
                size += len(line.raw)
                if len(piece) >= _PIECE_LINES or size >= _PIECE_BYTES:
                    yield piece
                    piece, size = [], 0
        await asyncio.sleep(0)
    piece += lines.end()
    if piece:
        yield piece


async def _given(piece: Sequence[Line], ids: KeyedIds | None) -> list[Given]:
    given: list[Given] = []
    for line in piece:
        body = _cut(line) if line.is_cut else read_event(line.raw)
        if ids is not None and not isinstance(body, Rejected):
            ids.name(body, line.number - 1)
        given.append((line.raw, body))
        if not len(given) % EVENTS_PER_TURN:
            await asyncio.sleep(0)
    return given


def _cut(line: Line) -> Rejected:
    detail = f"an event may have at most {MAX_EVENT_BYTES} bytes; this has {line.length}"
    return Rejected(Reason.TOO_LARGE, detail)


def _is_said_to_be_long(scope: AsgiScope) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value) > _LONG
    return False


def _first_line(scope: AsgiScope) -> int:
    """The number of the body's first line within its file, from the query. Raises Problem 422."""
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    texts = query.get("first_line", ["1"])
    if len(texts) > 1 or not _LINE_NUMBER.fullmatch(texts[0]):
        raise Problem(422, "schema_violation", "first_line is a whole number from 1")
    return int(texts[0])


_LINE_NUMBER = re.compile(r"[1-9][0-9]{0,14}")

"""Server-sent events: a stream that goes on, after a break, behind the last event that is stored."""

from __future__ import annotations

import uuid

import aiohttp

from services.ingest.domain.sources.connections import SseConnection
from services.ingest.domain.sources.event_stream import EventStream, EventTooLargeError, ServerSentEvent
from services.ingest.domain.sources.identity import event_id_of
from services.ingest.sources.delivery import Delivery, Message
from services.ingest.sources.far_end import check_status, new_session
from services.ingest.sources.reader import ReadError


async def read_sse(connection: SseConnection, delivery: Delivery) -> None:
    """Raises ReadError, aiohttp.ClientError, TimeoutError, and what `Delivery` raises."""
    position = await delivery.position()
    last = position.get("last_event_id") if position.get("url") == connection.url else None
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
    if isinstance(last, str) and last:
        headers["Last-Event-ID"] = last
    # aiohttp's own time-out ends a stream in which nothing comes, not even a comment.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=connection.silence)
    stream = EventStream()
    async with (
        new_session(connection.headers) as session,
        session.get(connection.url, headers=headers, allow_redirects=False, timeout=timeout) as answer,
    ):
        check_status(answer)
        if answer.content_type != "text/event-stream":
            raise ReadError(f"the answer is {answer.content_type}, not text/event-stream")
        delivery.works()
        async for chunk in answer.content.iter_any():
            try:
                events = stream.feed(chunk)
            except EventTooLargeError:
                raise ReadError("an event of the stream does not end") from None
            await delivery.take([_message(delivery.definition.key, event) for event in events])
            named = [event.id for event in events if event.id is not None]
            if named:
                await delivery.save({"url": connection.url, "last_event_id": named[-1]})
    raise ReadError("the far end has ended the stream", retry_after=stream.retry or 0.0)


def _message(key: str, event: ServerSentEvent) -> Message:
    """What has an id may be sent again after a break; what has none is another event each time it comes."""
    raw = event.data.encode()
    if event.id is None:
        return Message(raw, uuid.uuid4().hex)
    return Message(raw, event_id_of(key, event.id, raw))

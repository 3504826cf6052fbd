"""What every way in shares: events are judged, then kept, and only then answered.

    HTTP, WebSocket, other products' formats ──► (bytes, body) ──► judge ──► events.v1, dead letters ──► verdicts

A way in only reads its own format: it hands on each event's own bytes, which a dead letter keeps, and its body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.ingest.domain.normalise import MAX_EVENT_BYTES, EventBody, Rejected, normalised
from services.ingest.domain.sent_at import by_our_clock
from services.ingest.event_log import Cause, EventLog, NotStoredError, Record
from services.ingest.metrics import IngestMetrics
from shared.clock import Clock
from shared.http import Problem, unavailable
from shared.messages import DeadLetter, Event
from shared.topics import DEAD_LETTERS, EVENTS

MAX_DEAD_LETTER_BYTES = MAX_EVENT_BYTES
"""What is longer is cut: it could never become an event."""

EVENTS_PER_TURN = 500
"""A long batch lets other requests have their turn after so many events (some 5 ms)."""

Given = tuple[bytes, EventBody | Rejected]
"""One event as it was sent, and what it says, or why that cannot be read."""

Place = tuple[int, int]
"""Partition and offset in the topic that an event was read from."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends, and what their connection says of them."""

    organisation: str
    context: Mapping[str, str] = field(default_factory=dict)
    """Stands in for what an event's own context does not say."""
    origin: str = "http"
    """How it came in, as dead letters name it."""
    sent_at: str | None = None
    """When the client sent it, by the clock that also gave its events their times (RFC 3339)."""


class Intake:
    """Events go to `events`, dead letters to `letters`. `new_id` names letters, and events that have no id."""

    def __init__(
        self,
        *,
        events: EventLog,
        letters: EventLog,
        clock: Clock,
        new_id: Callable[[], str],
        metrics: IngestMetrics,
    ) -> None:
        self._events = events
        self._letters = letters
        self._clock = clock
        self._new_id = new_id
        self._metrics = metrics

    def check_room(self) -> None:
        """Before any work is spent on a body. Raises Problem 503."""
        refusal = self._events.refusal()
        if refusal is not None:
            raise _unavailable(refusal)

    async def take(
        self, given: Sequence[Given], sender: Sender, places: Sequence[Place] | None = None
    ) -> list[Event | Rejected]:
        """A verdict for each, once Kafka has the events and the dead letters of what is none.

        `places` is where each was read, which its dead letter tells.
        Raises Problem 503: then all of them are to be sent again, with the same ids.
        """
        return await self.take_bodies([body for _, body in given], lambda: [raw for raw, _ in given], sender, places)

    async def take_bodies(
        self,
        bodies: Sequence[EventBody | Rejected],
        raws: Callable[[], Sequence[bytes]],
        sender: Sender,
        places: Sequence[Place] | None = None,
    ) -> list[Event | Rejected]:
        """`take` for whoever need not know each event's own bytes unless it is asked for them.

        Raises Problem 503.
        """
        verdicts = await self._judge(bodies, sender)
        events = [verdict for verdict in verdicts if isinstance(verdict, Event)]
        letters: list[DeadLetter] = []
        if len(events) < len(verdicts):
            letters = [
                self._dead_letter(verdict, raw, sender, places[i] if places else (None, None))
                for i, (verdict, raw) in enumerate(zip(verdicts, raws(), strict=True))
                if isinstance(verdict, Rejected)
            ]
        await self._store(events, letters)
        return verdicts

    async def judge(self, given: Sequence[Given], sender: Sender) -> list[Event | Rejected]:
        """A verdict for each; nothing is kept."""
        return await self._judge([body for _, body in given], sender)

    async def _judge(self, bodies: Sequence[EventBody | Rejected], sender: Sender) -> list[Event | Rejected]:
        now = self._clock()
        if sender.sent_at is not None:
            bodies = [by_our_clock(body, sender.sent_at, now) for body in bodies]
        verdicts: list[Event | Rejected] = []
        for body in bodies:
            verdicts.append(
                body
                if isinstance(body, Rejected)
                else normalised(
                    body,
                    organisation=sender.organisation,
                    received_at=now,
                    context=sender.context,
                    new_id=self._new_id,
                )
            )
            if not len(verdicts) % EVENTS_PER_TURN:
                await asyncio.sleep(0)
        return verdicts

    def _dead_letter(
        self, rejected: Rejected, raw: bytes, sender: Sender, place: Place | tuple[None, None]
    ) -> DeadLetter:
        self._metrics.invalid[rejected.reason].inc()
        detail = rejected.detail
        if len(raw) > MAX_DEAD_LETTER_BYTES:
            detail += f"; only the first {MAX_DEAD_LETTER_BYTES} bytes are kept"
        return DeadLetter(
            id=self._new_id(),
            organisation=sender.organisation,
            reason=rejected.reason.value,
            detail=detail,
            origin=sender.origin,
            received_at=self._clock(),
            payload=raw[:MAX_DEAD_LETTER_BYTES],
            partition=place[0],
            offset=place[1],
        )

    async def _store(self, events: list[Event], letters: list[DeadLetter]) -> None:
        records: list[Record] = list(zip(map(EVENTS.key, events), EVENTS.encode_all(events), strict=True))
        try:
            if not letters:
                await self._events.append(records)
            else:
                kept: list[Record] = [(DEAD_LETTERS.key(d), DEAD_LETTERS.encode(d)) for d in letters]
                await _both(self._letters.append(kept), self._events.append(records))
        except NotStoredError as error:
            raise _unavailable(error.cause) from None
        self._metrics.accepted.inc(len(events))
        self._metrics.dead_letters.inc(len(letters))


async def _both(*appends: Any) -> None:
    """Waits for all of them, then raises the first failure."""
    for outcome in await asyncio.gather(*appends, return_exceptions=True):
        if outcome is not None:
            raise outcome


_OVERLOADED = frozenset({Cause.FULL, Cause.STALE})


def _unavailable(cause: Cause) -> Problem:
    if cause in _OVERLOADED:
        return unavailable("more events wait for Kafka than are allowed; send again later", reason="overloaded")
    detail = "Kafka has not confirmed the events; send them again with the same event ids"
    return unavailable(detail, reason="not_confirmed")

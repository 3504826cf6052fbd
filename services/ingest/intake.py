"""What every way in shares: events are judged, then kept, and only then answered.

    HTTP, WebSocket, other products' formats ──► (bytes, body) ──► judge ──► events.v1, dead letters ──► verdicts
                                                                     │
                                  valid? ──► the organisation's own rules, if it has any

A way in only reads its own format: it hands on each event's own bytes, which a dead letter keeps, and its body.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self, TypeVar

from services.ingest.domain.normalise import MAX_EVENT_BYTES, EventBody, Rejected
from services.ingest.domain.normalise_many import all_normalised
from services.ingest.domain.quality.aside import SetAside, Verdict, becomes_letter
from services.ingest.domain.quality.guard import LetterContent
from services.ingest.domain.quality.inspection import Inspection
from services.ingest.domain.quality.schema import violated_mode
from services.ingest.domain.sent_at import by_our_clock, legible
from services.ingest.event_log import Cause, EventLog, NotStoredError, Record
from services.ingest.metrics import IngestMetrics
from services.ingest.rate_limits import Limited, RateLimits
from shared.clock import Clock
from shared.http import Problem, unavailable
from shared.keys import Principal, RateLimit
from shared.messages import DeadLetter, Event
from shared.topics import DEAD_LETTERS, EVENTS

MAX_DEAD_LETTER_BYTES = MAX_EVENT_BYTES
"""What is longer is cut: it could never become an event."""

EVENTS_PER_TURN = 500
"""A long batch lets other requests have their turn after so many events (some 5 ms)."""

INSPECTION_TURN = 0.005
"""Seconds after which others have their turn where each event is looked at once more: one may take far longer than
another."""

Given = tuple[bytes, EventBody | Rejected]
"""One event as it was sent, and what it says, or why that cannot be read."""

Bodies = list[EventBody] | list[EventBody | Rejected]

Place = tuple[int, int]
"""Partition and offset in the topic that an event was read from."""

T = TypeVar("T")


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
    stated_sent_at: Any = None
    """The same where the way in puts times right by itself: as the request has it, for its dead letters."""
    arrived_at: int | None = None
    """When what was sent at `sent_at` began to arrive, in microseconds UTC; None: when it is judged."""
    key: str = ""
    """The prefix of the key that let them in, if it has a limit."""
    limit: RateLimit | None = None
    """Of the events that may be sent with that key."""

    @classmethod
    def of(cls, principal: Principal, context: Mapping[str, str] | None = None, origin: str = "http") -> Self:
        """Whoever was let in by a key."""
        if principal.limit is None:  # two fields less to set, on the way of every request
            return cls(principal.organisation, context or {}, origin)
        return cls(principal.organisation, context or {}, origin, key=principal.key, limit=principal.limit)


class Inspections(Protocol):
    """What organisations want of their events; None, which costs least, if one wants nothing."""

    def of(self, organisation: str) -> Inspection | None: ...


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
        inspections: Inspections,
        rates: RateLimits | None = None,
    ) -> None:
        self._events = events
        self._letters = letters
        self._clock = clock
        self._new_id = new_id
        self._metrics = metrics
        self._inspections = inspections
        self._rates = rates

    def check_room(self, who: Limited | None = None, *, patience: float = 0.0) -> None:
        """Before any work is spent on a body.

        Raises Problem 503, or 429 if `who` has sent so much that nothing can come in within `patience` seconds.
        """
        refusal = self._events.refusal()
        if refusal is not None:
            raise _unavailable(refusal)
        if who is not None and who.limit is not None and self._rates is not None:
            self._rates.check(who, patience=patience)

    @asynccontextmanager
    async def within_limit(self, sender: Sender, events: int, *, patience: float = 0.0) -> AsyncIterator[Sender]:
        """Who may send so many events now, or within `patience` seconds: they are not charged for them again.

        Raises Problem 429.
        """
        if sender.limit is None or self._rates is None:
            yield sender
            return
        async with self._rates.charged(sender, events, patience=patience):
            yield replace(sender, limit=None)

    async def take(
        self, given: Sequence[Given], sender: Sender, places: Sequence[Place] | None = None
    ) -> list[Verdict]:
        """A verdict for each, once Kafka has the events and the dead letters of what is none.

        `places` is where each was read, which its dead letter tells.
        Raises Problem 503 or 429: then all of them are to be sent again, with the same ids.
        """
        return await self.take_bodies(
            [body for _, body in given], lambda: [raw for raw, _ in given], sender, lambda verdicts: verdicts, places
        )

    async def take_bodies(
        self,
        bodies: Bodies,
        raws: Callable[[], Sequence[bytes]],
        sender: Sender,
        tell: Callable[[list[Verdict]], T],
        places: Sequence[Place] | None = None,
    ) -> T:
        """`take` for whoever need not know each event's own bytes unless it is asked for them; what `tell` says.

        `tell` sees the verdicts before Kafka has the events, and `bodies` is emptied: of events that wait only their
        records are held, few enough for the processor's caches. Raises Problem 503 or 429.
        """
        if sender.limit is not None:
            async with self.within_limit(sender, len(bodies)) as charged:
                return await self._take(bodies, raws, charged, tell, places)
        return await self._take(bodies, raws, sender, tell, places)

    async def _take(
        self,
        bodies: Bodies,
        raws: Callable[[], Sequence[bytes]],
        sender: Sender,
        tell: Callable[[list[Verdict]], T],
        places: Sequence[Place] | None,
    ) -> T:
        inspection = self._inspections.of(sender.organisation)
        verdicts = await self._judge(bodies, sender, inspection)
        events = [verdict for verdict in verdicts if isinstance(verdict, Event)]
        letters: list[DeadLetter] = []
        if len(events) < len(verdicts):
            letters = [
                self._dead_letter(
                    verdict,
                    self._content(verdict, bodies[i], raw, inspection),
                    sender,
                    places[i] if places else (None, None),
                )
                for i, (verdict, raw) in enumerate(zip(verdicts, raws(), strict=True))
                if not isinstance(verdict, Event) and becomes_letter(verdict)
            ]
        records = list(zip(map(EVENTS.key, events), EVENTS.encode_all(events), strict=True))
        told = tell(verdicts)
        to_count = verdicts if inspection is not None or len(events) < len(verdicts) else []
        bodies.clear()
        del verdicts, events
        await self._store(records, letters)
        self._count(to_count)
        return told

    def arriving(self, sender: Sender) -> Sender:
        """For a request that is handed on in pieces: all of it was sent at once."""
        return sender if sender.sent_at is None else replace(sender, arrived_at=self._clock())

    async def judge(self, given: Sequence[Given], sender: Sender) -> list[Verdict]:
        """A verdict for each; nothing is kept."""
        inspection = self._inspections.of(sender.organisation)
        return await self._judge([body for _, body in given], sender, inspection)

    async def _judge(
        self, bodies: Sequence[EventBody | Rejected], sender: Sender, inspection: Inspection | None
    ) -> list[Verdict]:
        """Raises Problem 503 while the organisation's rules cannot be followed."""
        now = self._clock()
        if inspection is not None and inspection.guard is not None:
            refusal = inspection.guard.refusal(now)
            if refusal is not None:
                raise unavailable(f"{refusal}; send again later", reason="intake_rules_unavailable")
        if sender.sent_at is not None:
            arrived_at = now if sender.arrived_at is None else sender.arrived_at
            bodies = [by_our_clock(body, sender.sent_at, arrived_at) for body in bodies]
        verdicts: list[Verdict] = []
        for start in range(0, len(bodies), EVENTS_PER_TURN):
            if start:
                await asyncio.sleep(0)
            verdicts += all_normalised(
                bodies[start : start + EVENTS_PER_TURN],
                organisation=sender.organisation,
                received_at=now,
                context=sender.context,
                new_id=self._new_id,
            )
        if inspection is not None:
            await _inspect(verdicts, inspection, now)
        return verdicts

    def _count(self, verdicts: Sequence[Verdict]) -> None:
        """What has been settled and is no event, or one with a warning."""
        for verdict in verdicts:
            mode = violated_mode(verdict)
            if mode is not None:
                self._metrics.schema_violations[mode].inc()
            if isinstance(verdict, Rejected):
                self._metrics.invalid[verdict.reason].inc()
            elif isinstance(verdict, SetAside):
                self._metrics.set_aside[verdict.reason].inc()

    def _dead_letter(
        self,
        rejected: Rejected | SetAside,
        content: LetterContent,
        sender: Sender,
        place: Place | tuple[None, None],
    ) -> DeadLetter:
        return DeadLetter(
            id=self._new_id(),
            organisation=sender.organisation,
            reason=rejected.reason.value,
            detail=content.detail,
            origin=sender.origin,
            # As a replay puts its clock right: by when all of what was sent began to arrive.
            received_at=self._clock() if sender.arrived_at is None else sender.arrived_at,
            payload=content.payload,
            partition=place[0],
            offset=place[1],
            kept=content.kept,
            sent_at=legible(sender.sent_at or sender.stated_sent_at),
        )

    def _content(
        self, refused: Rejected | SetAside, body: EventBody | Rejected, raw: bytes, inspection: Inspection | None
    ) -> LetterContent:
        if inspection is not None and inspection.guard is not None:
            content = inspection.guard.letter(body, raw, refused.detail, self._clock())
        else:
            content = LetterContent(raw, refused.detail)
        if content.kept == "redacted" or len(content.payload) <= MAX_DEAD_LETTER_BYTES:
            return content
        detail = f"{content.detail}; only the first {MAX_DEAD_LETTER_BYTES} bytes are kept"
        return LetterContent(content.payload[:MAX_DEAD_LETTER_BYTES], detail)

    async def _store(self, records: list[Record], letters: list[DeadLetter]) -> None:
        try:
            if not letters:
                await self._events.append(records)
            else:
                kept: list[Record] = [(DEAD_LETTERS.key(d), DEAD_LETTERS.encode(d)) for d in letters]
                await _both(self._letters.append(kept), self._events.append(records))
        except NotStoredError as error:
            raise _unavailable(error.cause) from None
        self._metrics.accepted.inc(len(records))
        self._metrics.dead_letters.inc(len(letters))


async def _inspect(verdicts: list[Verdict], inspection: Inspection, received_at: int) -> None:
    """Judges the events among them once more."""
    loop = asyncio.get_running_loop()
    turn = loop.time() + INSPECTION_TURN
    for index, verdict in enumerate(verdicts):
        if isinstance(verdict, Event):
            verdicts[index] = inspection.judge(verdict, received_at)
            if loop.time() > turn:
                await asyncio.sleep(0)
                turn = loop.time() + INSPECTION_TURN


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

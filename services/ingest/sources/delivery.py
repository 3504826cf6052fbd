"""From one source's messages to the intake: mapped, stored, counted; a message is done only when Kafka has it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.ingest.domain.normalise import EARLIEST, EventBody
from services.ingest.domain.quality.aside import becomes_letter
from services.ingest.domain.sources.backoff import delay
from services.ingest.domain.sources.definition import SourceDefinition
from services.ingest.domain.sources.health import Health
from services.ingest.intake import Given, Intake, Place, Sender
from services.ingest.sources.leases import Lease, Leases
from shared.clock import Clock, to_iso
from shared.http import Problem
from shared.messages import Event

logger = logging.getLogger(__name__)

_PER_TURN = 100
"""So many messages are mapped before others have their turn (some 5 ms)."""
_PORTION_MESSAGES = 1_000
_PORTION_BYTES = 4 * 1024 * 1024
"""So much is handed to the intake at once: more might never find room there."""


@dataclass(frozen=True, slots=True)
class Message:
    """`event_id` names the event if the message does not: the same for the same message, whoever reads it."""

    raw: bytes
    event_id: str
    place: Place | None = None
    """Partition and offset, where it has them."""
    time: int | None = None
    """When it was written, in microseconds UTC: the event's time unless the message says another one."""


class Delivery:
    """What a reader hands its messages to."""

    def __init__(
        self,
        definition: SourceDefinition,
        lease: Lease,
        *,
        intake: Intake,
        leases: Leases,
        health: Health,
        clock: Clock,
    ) -> None:
        self.definition = definition
        self.health = health
        self._lease = lease
        self._intake = intake
        self._leases = leases
        self._clock = clock
        self._sender = Sender(definition.organisation, origin=definition.origin)

    async def take(self, messages: Sequence[Message]) -> None:
        """Returns once Kafka has the events, and the dead letters of what gives none.

        Tries as long as it takes: the far end is not read meanwhile, which is all the buffer that a source has.
        """
        for portion in _portions(messages):
            await self._take(portion)

    async def _take(self, messages: Sequence[Message]) -> None:
        places = [message.place for message in messages if message.place is not None]
        failures = 0
        given: list[Given] = []
        for message in messages:
            body = self.definition.body(message.raw, event_id=message.event_id)
            if isinstance(body, EventBody) and body.event_timestamp is None:
                body.event_timestamp = self._plausible(message.time)
            given.append((message.raw, body))
            if not len(given) % _PER_TURN:
                await asyncio.sleep(0)
        while True:
            try:
                verdicts = await self._intake.take(given, self._sender, places if len(places) == len(given) else None)
                break
            except Problem as problem:
                failures += 1
                self.health.noticed(problem.detail, self._clock())
                await asyncio.sleep(delay(min(failures, 4), random.random()))
        events = sum(isinstance(verdict, Event) for verdict in verdicts)
        self.health.took(events, sum(map(becomes_letter, verdicts)), self._clock())

    def _plausible(self, time: int | None) -> str | None:
        """None where the arrival is a better guess: a far end's clock must not make its events invalid."""
        return to_iso(time) if time is not None and EARLIEST <= time <= self._clock() else None

    def works(self) -> None:
        """The far end answers as it should."""
        self.health.works()

    def notice(self, error: str) -> None:
        """Something is wrong that does not stop the reader."""
        self.health.noticed(error, self._clock())

    async def position(self) -> dict[str, Any]:
        """As `save` stored it last, by whichever process. Raises LeaseLostError or what `RETRYABLE` lists."""
        return await self._leases.position(self._lease)

    async def save(self, position: Mapping[str, Any]) -> None:
        """Call it after `take`. Raises LeaseLostError or what `RETRYABLE` lists."""
        await self._leases.save(self._lease, position)


def _portions(messages: Sequence[Message]) -> Iterator[list[Message]]:
    portion, size = list[Message](), 0
    for message in messages:
        if portion and (len(portion) >= _PORTION_MESSAGES or size + len(message.raw) > _PORTION_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(message)
        size += len(message.raw)
    if portion:
        yield portion

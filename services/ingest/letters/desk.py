"""All that serves dead letters, put together on Kafka."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack

from fastapi import APIRouter

from services.ingest.domain.letters.correction import Reader
from services.ingest.domain.letters.ledger import Ledger
from services.ingest.event_log import EventLog
from services.ingest.intake import Intake
from services.ingest.letters.event_finder import KafkaEventFinder
from services.ingest.letters.replay import Replayer
from services.ingest.letters.replay_routes import replay_routes
from services.ingest.letters.routes import LetterBox, letter_routes
from services.ingest.letters.search import LetterSearch
from services.ingest.metrics import IngestMetrics
from shared.clock import system_clock
from shared.kafka import Replica
from shared.messages import DeadLetter
from shared.topic_reader import TopicReader
from shared.topics import DEAD_LETTER_MARKS, DEAD_LETTERS

CATCH_UP_SECONDS = 10.0
"""So long a request waits for Kafka to say what became of letters."""


async def letter_desk(
    kafka: str,
    *,
    intake: Intake,
    events: EventLog,
    marks: EventLog,
    reader_of: Callable[[DeadLetter], Reader],
    metrics: IngestMetrics,
    resources: AsyncExitStack,
) -> tuple[tuple[APIRouter, ...], Callable[[], str | None]]:
    """The routes, and what says what they wait for. `reader_of` says what reads a letter's payload."""
    ledger = Ledger()
    kept = Replica(kafka, DEAD_LETTER_MARKS, ledger.apply)
    resources.push_async_callback(kept.stop)
    reader = TopicReader(kafka, DEAD_LETTERS.name)
    resources.push_async_callback(reader.stop)
    finder = KafkaEventFinder(kafka)
    resources.push_async_callback(finder.stop)
    await asyncio.gather(kept.start(), reader.start())

    async def catch_up() -> None:
        async with asyncio.timeout(CATCH_UP_SECONDS):
            await kept.catch_up()

    box = LetterBox(LetterSearch(reader, time.monotonic), ledger, catch_up)
    replayer = Replayer(
        intake=intake,
        events=events,
        marks=marks,
        ledger=ledger,
        catch_up=catch_up,
        finder=finder,
        reader_of=reader_of,
        clock=system_clock,
        metrics=metrics,
    )
    return (letter_routes(box), replay_routes(box, replayer, lambda: str(uuid.uuid4()))), kept.waiting_for

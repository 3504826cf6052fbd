"""What ingest does beside taking events in: it keeps definitions, in Postgres and on topics, by endless tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from shared.cancelling import cancel_until_ended
from shared.kafka import Publisher
from shared.postgres import Pool, create_pool
from shared.settings import Settings

logger = logging.getLogger(__name__)

_CONNECTIONS = 6
_END_SECONDS = 15.0
"""Enough for sources to be let go of, one wait for Postgres and Kafka included."""


@dataclass(frozen=True, slots=True)
class Backends:
    """Where definitions are kept. `kafka` are bootstrap servers."""

    kafka: str
    pool: Pool
    publisher: Publisher


async def start_backends(settings: Settings, resources: AsyncExitStack) -> Backends:
    """Waits for Kafka, not for Postgres. `resources` stops it. Raises KafkaError."""
    pool = await create_pool(settings.postgres, name="ingest", size=_CONNECTIONS, command_timeout=5)
    resources.push_async_callback(_close, pool)
    publisher = Publisher(settings.kafka)
    resources.push_async_callback(publisher.stop)
    await publisher.start()
    return Backends(settings.kafka, pool, publisher)


def run_in_background(work: Coroutine[Any, Any, None], name: str, resources: AsyncExitStack) -> None:
    """Until `resources` ends it. If it ends by itself events go on, but somebody should know."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_complain)
    resources.push_async_callback(cancel_until_ended, task, patience=_END_SECONDS)


def _complain(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("%s runs no more", task.get_name(), exc_info=task.exception())


async def _close(pool: Pool) -> None:
    """Stopping must not hang on a Postgres that is away."""
    try:
        async with asyncio.timeout(2):
            await pool.close()
    except TimeoutError:
        pool.terminate()

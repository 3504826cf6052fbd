"""A local copy of definitions that is always kept: one that fails is followed by a new one."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Protocol

from aiokafka.errors import KafkaError

from services.ingest.domain.sources.backoff import delay
from shared.kafka import ReplicaStoppedError

logger = logging.getLogger(__name__)

_MOST_PATIENCE = 6
"""The pause grows no longer after so many failures: what a copy says is missed."""


class Copy(Protocol):
    """`shared.kafka.Replica`."""

    @property
    def failure(self) -> BaseException | None: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


async def follow(new_copy: Callable[[], Copy], *, look_every: float = 1.0) -> None:
    """For ever. A new copy tells everything again, so that whoever learns from it must bear repetition."""
    failures = 0
    while True:
        copy = new_copy()
        try:
            await copy.start()
            failures = 0
            while copy.failure is None:
                await asyncio.sleep(look_every)
            why: BaseException = copy.failure
        except (KafkaError, OSError, TimeoutError, ReplicaStoppedError) as error:
            why = error
        finally:
            await copy.stop()
        logger.warning("the copy of the definitions is made anew", extra={"error": repr(why)})
        failures += 1
        await asyncio.sleep(delay(min(failures, _MOST_PATIENCE), random.random()))

"""Waiting until this process's copy of a topic holds what was just written there."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from aiokafka.errors import KafkaError

from shared.kafka import ReplicaStoppedError

logger = logging.getLogger(__name__)


class Copy(Protocol):
    """A `shared.kafka.Replica`."""

    async def catch_up(self) -> int: ...


async def caught_up(copy: Copy, *, seconds: float = 1) -> bool:
    """Whether, after at most so long, everything that was published before the call is applied here."""
    try:
        async with asyncio.timeout(seconds):
            await copy.catch_up()
    except (KafkaError, ReplicaStoppedError, TimeoutError, OSError) as error:
        logger.warning("a copy lags behind its topic", extra={"error": repr(error)})
        return False
    return True

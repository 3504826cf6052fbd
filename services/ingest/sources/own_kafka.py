"""Our own Kafka, which no source may read our topics from: they hold what every organisation has.

A cluster is known by its id, by whatever name or address somebody reaches it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from services.ingest.domain.sources.connections import KafkaConnection
from services.ingest.sources.reader import ReadError, RefusedError
from shared.topics import TOPICS

_OURS = frozenset(topic.name for topic in TOPICS)
_SECONDS = 10.0

ClusterId = Callable[[Mapping[str, Any]], Awaitable[str]]
"""The id of the cluster that a client with these settings reaches. Raises KafkaError or TimeoutError."""


class OwnKafka:
    """Reached by `bootstrap`."""

    def __init__(self, bootstrap: str, cluster_id: ClusterId | None = None) -> None:
        self._bootstrap = bootstrap
        self._cluster_id = cluster_id or _cluster_id

    async def check(self, connection: KafkaConnection, security: Mapping[str, Any]) -> tuple[str, ...]:
        """Those of the connection's servers that may be asked for its topic; for topics that are not ours, all.

        Each is looked at by itself: they need not be of one cluster. Raises RefusedError if one is ours, and
        ReadError if none answers.
        """
        if connection.topic not in _OURS and not connection.topic.startswith("__"):
            return connection.bootstrap_servers
        try:
            ours = await self._cluster_id({"bootstrap_servers": self._bootstrap})
        except (KafkaError, TimeoutError):
            raise ReadError("our own Kafka does not answer, which has a topic of that name") from None
        asked = await asyncio.gather(
            *(self._asked({"bootstrap_servers": server, **security}) for server in connection.bootstrap_servers)
        )
        found = dict(zip(connection.bootstrap_servers, asked, strict=True))
        if ours in found.values():
            raise RefusedError(f"{connection.topic} is a topic of this installation, which no source may read")
        others = tuple(server for server, cluster in found.items() if cluster is not None)
        if not others:
            raise ReadError("the brokers do not answer")
        return others

    async def _asked(self, settings: Mapping[str, Any]) -> str | None:
        try:
            return await self._cluster_id(settings)
        except (KafkaError, TimeoutError):
            return None


async def _cluster_id(settings: Mapping[str, Any]) -> str:
    client = AIOKafkaAdminClient(client_id="tidegate", request_timeout_ms=int(_SECONDS * 1_000), **settings)
    async with asyncio.timeout(_SECONDS):
        try:
            await client.start()
            cluster_id: str = (await client.describe_cluster())["cluster_id"]
            return cluster_id
        finally:
            await client.close()

"""Publishes rows that are their own outbox: switches and alerts.

    commit ─► offer ─► publish ─► published_version = version        (what is left over is swept up every second)

The latest version of a row wins. If another process has published meanwhile, ours is sent once more in its newest
form, so that the last record of a key is the row in force. An older one may still come after it, from a process that
stood still or a producer that was given up: what is heard on the topic is compared with the row, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aiokafka.errors import KafkaError

from services.alerting.store.rows import ALERT_COLUMNS, SWITCH_COLUMNS, AlertRow, SwitchRow, alert_row, switch_row
from shared.kafka import Publisher
from shared.messages import Alert, Switch
from shared.postgres import RETRYABLE, Pool
from shared.topics import ALERTS, SWITCHES, Topic

logger = logging.getLogger(__name__)

T = TypeVar("T", Alert, Switch)

_SWEEP_SECONDS = 1.0
_RETRY_SECONDS = 0.3
_MAX_PENDING = 10_000
"""Rows in memory that wait for Kafka; the others wait in Postgres."""

Id = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Outgoing(Generic[T]):
    id: Id
    version: int
    message: T


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(Generic[T]):
    """The rows of one table. `repeats`: all are sent again at start and whenever Kafka was away."""

    topic: Topic[T]
    table: str
    id_columns: tuple[str, ...]
    columns: str
    read: Callable[[Any], Outgoing[T]]
    repeats: bool


def switch_id(s: Switch) -> Id:
    return (s.organisation, s.flag, s.variant or "", s.cause)


def outgoing_switch(row: SwitchRow) -> Outgoing[Switch]:
    return Outgoing(switch_id(row.switch), row.version, row.switch)


def outgoing_alert(row: AlertRow) -> Outgoing[Alert]:
    return Outgoing((row.id,), row.version, row.message_of())


SWITCH_ROWS: Source[Switch] = Source(
    topic=SWITCHES,
    table="alerting.switches",
    id_columns=("organisation", "flag", "variant", "cause"),
    columns=SWITCH_COLUMNS,
    read=lambda record: outgoing_switch(switch_row(record)),
    repeats=True,
)
ALERT_ROWS: Source[Alert] = Source(
    topic=ALERTS,
    table="alerting.alerts",
    id_columns=("id",),
    columns=ALERT_COLUMNS,
    read=lambda record: outgoing_alert(alert_row(record)),
    repeats=False,
)


class Outbox(Generic[T]):
    """`run` publishes until it is cancelled, from the moment that `may_begin` returns."""

    def __init__(
        self,
        source: Source[T],
        pool: Pool,
        publisher: Publisher,
        *,
        may_begin: Callable[[], Awaitable[object]],
        on_published: Callable[[T], None] = lambda message: None,
    ) -> None:
        self._source: Source[T] = source
        self._pool = pool
        self._publisher = publisher
        self._may_begin = may_begin
        self._on_published: Callable[[T], None] = on_published
        self._pending: dict[Id, Outgoing[T]] = {}
        self._sent: dict[Id, int] = {}
        """The version that we published last, where a repetition is of no use."""
        self._heard: dict[Id, T] = {}
        """The last record of a key on the topic, where it was not what we published last."""
        self._offered = asyncio.Event()
        self._is_row = " AND ".join(f"{column} = ${n}" for n, column in enumerate(source.id_columns, start=1))
        condition = " AND ".join(f"{column} = ${n}" for n, column in enumerate(source.id_columns, start=2))
        self._mark = (
            f"UPDATE {source.table} SET published_version = greatest(published_version, $1) "
            f"WHERE {condition} RETURNING {source.columns}"
        )

    def offer(self, outgoing: Outgoing[T]) -> None:
        """Publishes at once what a commit has just stored; what would be too much is left to the sweep."""
        known = self._pending.get(outgoing.id)
        if self._sent.get(outgoing.id, 0) >= outgoing.version:
            return
        if known is None and len(self._pending) >= _MAX_PENDING:
            return
        if known is None or known.version < outgoing.version:
            self._pending[outgoing.id] = outgoing
        self._offered.set()

    def hear(self, outgoing_id: Id, message: T | None) -> None:
        """Takes note of a record on the topic; None: one that is not to be compared with its row."""
        if message is None:
            self._heard.pop(outgoing_id, None)
        else:
            self._heard[outgoing_id] = message

    async def run(self) -> None:
        await self._may_begin()
        whole = not self._source.repeats
        while True:
            try:
                await self._send_pending()
                await self._compare()
                await self._sweep("version > published_version" if whole else "true")
                await self._send_pending()
                whole = True
                await self._wait(_SWEEP_SECONDS)
            except (KafkaError, *RETRYABLE) as error:
                logger.warning(
                    "rows wait to be published",
                    extra={"topic": self._source.topic.name, "pending": len(self._pending), "error": repr(error)},
                )
                if self._source.repeats and isinstance(error, KafkaError | TimeoutError):
                    whole = False
                    self._sent.clear()
                await asyncio.sleep(_RETRY_SECONDS)

    async def _wait(self, seconds: float) -> None:
        """Sends what is offered meanwhile; returns after `seconds`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left := until - loop.time()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._offered.wait()
            except TimeoutError:
                return
            await self._send_pending()

    async def _compare(self) -> None:
        for row_id, message in list(self._heard.items()):
            record = await self._pool.fetchrow(
                f"SELECT {self._source.columns} FROM {self._source.table} WHERE {self._is_row}", *row_id
            )
            if self._heard.get(row_id) != message:
                continue  # more has been heard meanwhile
            del self._heard[row_id]
            if record is not None and (present := self._source.read(record)).message != message:
                logger.warning("an outdated record came late: the row is published again", extra={"id": row_id})
                self._sent.pop(row_id, None)
                self.offer(present)

    async def _sweep(self, condition: str) -> None:
        ids = ", ".join(self._source.id_columns)
        for record in await self._pool.fetch(
            f"SELECT {self._source.columns} FROM {self._source.table} WHERE {condition} "
            f"ORDER BY {ids} LIMIT {_MAX_PENDING}"
        ):
            self.offer(self._source.read(record))

    async def _send_pending(self) -> None:
        while self._pending:
            self._offered.clear()
            for outgoing in list(self._pending.values()):
                await self._publisher.publish(self._source.topic, outgoing.message)
                if self._pending.get(outgoing.id) == outgoing:
                    del self._pending[outgoing.id]
                if self._source.repeats:
                    self._sent[outgoing.id] = outgoing.version
                self._on_published(outgoing.message)
                await self._confirm(outgoing)
        self._offered.clear()

    async def _confirm(self, sent: Outgoing[T]) -> None:
        record = await self._pool.fetchrow(self._mark, sent.version, *sent.id)
        if record is not None and (present := self._source.read(record)).version > sent.version:
            self.offer(present)

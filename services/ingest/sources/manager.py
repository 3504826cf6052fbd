"""Which sources this process runs, and that it runs no other: leases are taken, renewed, shared and let go of.

    every 2 s: count processes ─► let go of what is over our share ─► renew ─► take what is free, up to our share

Without Postgres nothing is taken or let go of. What can be read twice without harm goes on (Kafka: the consumer group
and ids made of offsets); the others stop before their lease has run out, because another process may begin then.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable

from services.ingest.domain.sources.definition import SourceDefinition
from services.ingest.domain.sources.health import State, health_of
from services.ingest.domain.sources.sharing import fair_share
from services.ingest.intake import Intake
from services.ingest.sources.catalogue import Catalogue
from services.ingest.sources.delivery import Delivery
from services.ingest.sources.leases import Leases
from services.ingest.sources.reader import Read
from services.ingest.sources.run import Run
from shared.clock import Clock
from shared.postgres import RETRYABLE

logger = logging.getLogger(__name__)

TICK = 2.0
_MARGIN = 0.25
"""So large a part of a lease is kept as a distance: clocks drift, and stopping takes time."""
_GUARD_SECONDS = 0.25
_FAREWELL_SECONDS = 5.0


class SourceManager:
    """`reader_of` makes what reads a definition's messages."""

    def __init__(
        self,
        catalogue: Catalogue,
        leases: Leases,
        intake: Intake,
        reader_of: Callable[[SourceDefinition], Read],
        clock: Clock,
    ) -> None:
        self._catalogue = catalogue
        self._leases = leases
        self._intake = intake
        self._reader_of = reader_of
        self._clock = clock
        self._runs: dict[int, Run] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def runs(self) -> Iterable[Run]:
        """Those of this process."""
        return self._runs.values()

    async def run(self) -> None:
        """Until it is cancelled; then everything has been let go of."""
        guard = asyncio.create_task(self._guard(), name="leases of sources")
        try:
            while True:
                try:
                    async with asyncio.timeout(self._leases.seconds / 3):
                        await self._tick()
                except RETRYABLE as error:
                    logger.warning("sources wait for Postgres", extra={"error": repr(error)})
                except Exception:  # a fault of ours in one round must not end all sources for good
                    logger.exception("a round over the sources failed")
                await self._catalogue.changed(TICK * (0.75 + random.random() / 2))
        finally:
            guard.cancel()
            await self._end_all()

    async def _tick(self) -> None:
        wanted = {d.id: d for d in self._catalogue.definitions() if d.enabled and d.is_read}
        processes = await self._leases.count_processes()
        for source_id in [i for i, run in self._runs.items() if run.has_ended()]:
            del self._runs[source_id]
        for source_id in fair_share(wanted, self._runs, processes).release:
            self._let_go(source_id)
        await self._renew()
        for source_id, run in list(self._runs.items()):
            if wanted[source_id].version != run.definition.version:
                self._let_go(source_id)  # and take it again with its new definition
        room = fair_share(wanted, self._runs, processes).room
        if room:
            missing = [source_id for source_id in wanted if source_id not in self._runs]
            free = await self._leases.free(missing)
            random.shuffle(free)
            for source_id in free[:room]:
                await self._take(wanted[source_id])

    async def _renew(self) -> None:
        if not self._runs:
            return
        until = self._valid_until()
        tokens = {source_id: run.lease.token for source_id, run in self._runs.items()}
        held = await self._leases.renew(tokens, {i: run.health.as_json() for i, run in self._runs.items()})
        for source_id in tokens:
            if source_id not in self._runs:
                continue  # the guard has stopped it while Postgres took its time
            if source_id in held:
                self._runs[source_id].valid_until = until
            else:
                logger.warning("a source was lost to another process", extra={"source_id": source_id})
                self._drop(source_id)

    async def _take(self, definition: SourceDefinition) -> None:
        until = self._valid_until()
        lease = await self._leases.acquire(definition.id)
        if lease is None:
            return
        health = health_of(lease.health)
        health.state = State.STARTING
        run = Run(definition, lease, health, until)
        delivery = Delivery(
            definition, lease, intake=self._intake, leases=self._leases, health=health, clock=self._clock
        )
        self._runs[definition.id] = run
        run.start(self._reader_of(definition), delivery, self._clock)
        logger.info("a source runs here", extra={"source": definition.key, "organisation": definition.organisation})

    def _valid_until(self) -> float:
        return asyncio.get_running_loop().time() + self._leases.seconds * (1 - _MARGIN)

    async def _guard(self) -> None:
        """Stops what may not go on, even while a question to Postgres hangs."""
        while True:
            now = asyncio.get_running_loop().time()
            for source_id, run in list(self._runs.items()):
                if run.valid_until < now and not run.outlives_its_lease:
                    logger.warning("a source stops until Postgres is back", extra={"source": run.definition.key})
                    self._drop(source_id)
            await asyncio.sleep(_GUARD_SECONDS)

    def _drop(self, source_id: int) -> None:
        self._in_background(self._runs.pop(source_id).stop())

    def _let_go(self, source_id: int) -> None:
        self._in_background(self._stop_and_release(self._runs.pop(source_id)))

    async def _stop_and_release(self, run: Run) -> None:
        await run.stop()
        try:
            await self._leases.release(run.lease, run.health.as_json())
        except RETRYABLE:
            logger.warning("a lease was not released: it runs out by itself")
        self._catalogue.wake()

    def _in_background(self, ending: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end_all(self) -> None:
        for source_id in list(self._runs):
            self._let_go(source_id)
        if self._ending:
            await asyncio.wait(self._ending, timeout=_FAREWELL_SECONDS)
        try:
            async with asyncio.timeout(1):
                await self._leases.leave()
        except RETRYABLE:
            logger.info("Postgres does not hear that this process ends")

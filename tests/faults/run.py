"""A whole run: events in as many parts as there are faults, each fault while its part is being counted.

part n:  ─ first half sent ─ counted more than before? ─ fault starts ─ second half sent ─ fault lifted ─
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from shared.clock import system_clock
from tests.faults.faults import Fault
from tests.faults.generator import Generator, Part
from tests.faults.progress import Progress
from tests.faults.reader import Pipeline
from tests.faults.schedule import Planned
from tests.faults.site import Site
from tests.traffic import Ledger, send_batches
from tests.waiting import eventually

CLIENTS = 6
_RESENT_WHOLE = 0.05
_EXTRA = 200
"""Events of a part that only keeps the load up until a fault is spent."""


class Run:
    """One generator's events on one site."""

    def __init__(self, site: Site, generator: Generator, progress: Progress) -> None:
        self._site = site
        self._generator = generator
        self._progress = progress
        self.ledger = Ledger()

    @property
    def resent(self) -> int:
        """Events that came, or may have come, more than once."""
        return self.ledger.resent + self._generator.resent

    async def define(self) -> None:
        for aspect in self._generator.aspects:
            for key, spec in aspect.metrics().items():
                await self._site.client.ask("PUT", f"/api/v1/admin/metrics/{key}", spec)
        for aspect in self._generator.aspects:
            for key, spec in aspect.experiments().items():
                await self._site.client.ask("PUT", f"/api/v1/admin/experiments/{key}", spec)
        await self.send(self._generator.opening())

    async def assign(self, users: int) -> None:
        """Some users get their variant from assignment, which records the exposure, and buy something."""
        prefix = self._generator.prefix
        for n in range(users):
            user = f"{prefix}-assigned-{n}"
            body = {"experiment_key": self._generator.by_user.key, "user_id": user}
            answer = await self._site.client.ask("POST", "/api/v1/ab-testing/assign", body)
            now = system_clock()
            self._generator.by_user.expose(user, answer["variant"]["variant_name"], now)
            await self.send(self._generator.purchase_of(user, now))

    async def suffer(self, planned: Sequence[Planned], events: int) -> None:
        """Sends about `events` events, in equal parts, while the faults happen one after another."""
        each = max(2, events // max(1, len(planned)))
        for number, plan in enumerate(planned, start=1):
            fault = plan()
            self._progress.say(f"{number}/{len(planned)}  {fault.name}")
            await self._one(fault, each)

    async def finish(self) -> None:
        """The last events, and everything is counted. Fails if anything is counted twice, or not at all."""
        await self.send(self._generator.closing(system_clock()))
        assert len(self.ledger.acknowledged) == self._generator.drawn
        await eventually(self._all_counted, "every event is counted", seconds=120)
        await eventually(self._all_folded, "every record is folded", seconds=60)
        self._progress.say(f"{self._generator.drawn:,} events are counted, {self.resent:,} came again")

    async def expect_truth(self) -> None:
        """Fails unless all that can be read is as it was drawn.

        Deadlines may pass a moment after the last event: by the brokers' clock, where nothing is left to fold.
        """

        async def right() -> bool:
            return not await self._differences()

        try:
            await eventually(right, "everything is as drawn", seconds=20, every=1)
        except AssertionError:
            found = await self._differences()
            assert not found, "\n".join(found)

    async def _differences(self) -> list[str]:
        wrong = [line for aspect in self._generator.aspects for line in await aspect.differences(self._site.reader)]
        whole = await self._site.reader.pipeline()
        if whole.events != whole.counted + whole.late + whole.duplicates:
            wrong.append(f"events are counted, late or duplicates: {whole}")
        if whole.next_offset != whole.events + whole.dead_letters:
            wrong.append(f"records are events or dead letters: {whole}")
        return wrong

    async def send(self, part: Part) -> None:
        await send_batches(
            self._site.stack.gateway,
            self._site.stack.keys["ingest"],
            part.batches,
            self.ledger,
            clients=CLIENTS,
            resend=_RESENT_WHOLE,
            invalid=part.refused,
            seed=self._generator.drawn,
        )

    async def _one(self, fault: Fault, events: int) -> None:
        before = await self._seen()
        async with asyncio.TaskGroup() as sending:
            sending.create_task(self.send(self._generator.part(events // 2)))
            await eventually(partial(self._seen_more_than, before), "the part is being counted", seconds=90)
            sending.create_task(self.send(self._generator.part(events - events // 2)))
            await fault.start()
            try:
                await asyncio.sleep(fault.seconds)
                while not fault.is_spent():
                    await self.send(self._generator.part(_EXTRA))
            finally:
                await fault.stop()

    async def _seen(self) -> int:
        """How many events of the run the aggregator has seen, resends included."""
        counts = self._generator.counts
        found = (await self._site.reader.totals(counts.metric))["value"]
        assert found["counted"] <= counts.verdicts.counted, "an event was counted twice"
        return found["counted"] + found["late"] + found["duplicates"]

    async def _seen_more_than(self, before: int) -> bool:
        self._site.expect_life()
        return await self._seen() > before

    async def _all_counted(self) -> bool:
        self._site.expect_life()
        counts = self._generator.counts
        found = (await self._site.reader.totals(counts.metric))["value"]
        assert found["counted"] <= counts.verdicts.counted, "an event was counted twice"
        return found["counted"] == counts.verdicts.counted

    async def _all_folded(self) -> bool:
        return is_folded(await self._site.reader.pipeline())


def is_folded(pipeline: Pipeline) -> bool:
    return pipeline.next_offset == pipeline.end_offset


async def wait_until_folded(site: Site) -> Pipeline:
    """Returns once every record in the log is folded."""

    async def folded() -> bool:
        site.expect_life()
        return is_folded(await site.reader.pipeline())

    await eventually(folded, "every record is folded", seconds=120)
    return await site.reader.pipeline()

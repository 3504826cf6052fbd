"""Watches what the platform counts of one run, and says at the end how it compares with the truth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from examples.imports.definitions import Definitions
from examples.imports.domain.comparison import Comparison, Counted, VariantCounted, compare
from examples.imports.domain.inbox import Channel, Received
from examples.imports.domain.ledger import Ledger
from examples.imports.domain.valve import BreakerReport, Valve, kill_latencies_ms
from examples.imports.gate import FlagWatcher
from examples.imports.platform import Platform, PlatformError
from examples.imports.progress import Progress
from examples.imports.receivers import Receivers
from examples.imports.second_act import SecondAct
from examples.imports.service import ImportService

_LOOK_SECONDS = 0.5
_QUIET_SECONDS = 3.0
"""What need not agree may still be on its way; after so long without a change it is not."""
_DEAD_LETTER_LIMIT = 10_000
_LAST_MESSAGES = 4
_CHANNELS: tuple[Channel, ...] = ("slack", "pagerduty", "email")


class Observer:
    """Reads one run's figures through the REST API and beside them what reached the product from outside."""

    def __init__(
        self,
        platform: Platform,
        definitions: Definitions,
        experiment_id: int,
        ledger: Ledger,
        *,
        watcher: FlagWatcher,
        act: SecondAct,
        receivers: Receivers,
    ) -> None:
        self._platform = platform
        self._definitions = definitions
        self._experiment_id = experiment_id
        self._ledger = ledger
        self._watcher = watcher
        self._act = act
        self._receivers = receivers
        self._closed_at: set[int] = set()
        self._threshold = int(definitions.breaker.spec["failure_threshold"])

    @asynccontextmanager
    async def watching(self, progress: Progress, service: ImportService) -> AsyncIterator[None]:
        """Keeps `progress` current while the block lasts; a refusal of the platform ends the block."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._watch(progress, service))
            try:
                yield
            finally:
                task.cancel()

    async def settle(self, seconds: float) -> Comparison:
        """The comparison once everything agrees, or as it stands when nothing has changed for `seconds`.

        Figures that never stop changing are taken after five times as long.
        Raises PlatformError if the platform's figures could not be read.
        """
        loop = asyncio.get_running_loop()
        truth = self._ledger.truth()
        latest: Comparison | None = None
        changed_at = begun = loop.time()
        while loop.time() < min(changed_at + seconds, begun + 5 * seconds):
            counted, report = await self._counted(), await self._report()
            if counted is not None and report is not None:
                valve = self._valve(report)
                if latest is None or (counted, valve) != (latest.platform, latest.valve):
                    changed_at = loop.time()
                latest = compare(truth, counted, valve)
                if all(line.agrees for line in latest.lines):
                    return latest
                if not latest.differences and loop.time() > changed_at + _QUIET_SECONDS:
                    return latest
            await asyncio.sleep(_LOOK_SECONDS)
        if latest is None:
            raise PlatformError(f"the platform's figures could not be read for {seconds:g} s")
        return latest

    async def _watch(self, progress: Progress, service: ImportService) -> None:
        loop = asyncio.get_running_loop()
        while True:
            truth = self._ledger.truth()
            progress.observe(loop.time(), truth)
            progress.importing = service.active
            progress.failing = self._act.is_failing()
            progress.flag = self._watcher.sightings.state
            progress.messages = self._messages()
            progress.last_messages = self.last_messages()
            totals = await self._platform.totals(self._definitions.metric("run_events"))
            if totals is not None:
                progress.counted, progress.late = totals.counted, totals.late
            variants = await self._variants()
            if variants is not None:
                progress.variants = variants
            report = await self._report()
            if report is not None:
                progress.breaker = report
            await asyncio.sleep(_LOOK_SECONDS)

    def last_messages(self) -> Mapping[str, Sequence[Received]]:
        """The newest messages on each channel, oldest first."""
        return {name: self._receivers.of(name)[-_LAST_MESSAGES:] for name in _CHANNELS}

    def _messages(self) -> dict[str, int]:
        return {name: len(self._receivers.of(name)) for name in _CHANNELS}

    def _valve(self, report: BreakerReport) -> Valve:
        sightings = self._watcher.sightings
        return Valve(
            seen_openings=len(sightings.openings),
            seen_closings=len(sightings.closings),
            report=report,
            kill_latencies_ms=kill_latencies_ms(
                self._act.outcomes, sightings, sorted(self._closed_at), threshold=self._threshold
            ),
            messages=self._messages(),
            wanted_openings=self._act.wanted_openings,
        )

    async def _report(self) -> BreakerReport | None:
        """The platform shows a breaker's last transitions only: what they were is collected on the way."""
        report = await self._platform.breaker(self._definitions.breaker.key)
        if report is not None:
            self._closed_at.update(report.closed_at)
        return report

    async def _variants(self) -> dict[str, VariantCounted] | None:
        variants = await self._platform.variants(self._experiment_id, self._definitions)
        journeys = await self._platform.journeys(self._definitions.metric("import_journey"))
        if variants is None or journeys is None:
            return None
        return {name: replace(v, journeys=journeys.get(name, v.journeys)) for name, v in variants.items()}

    async def _counted(self) -> Counted | None:
        totals = await self._platform.totals(self._definitions.metric("run_events"))
        variants = await self._variants()
        letters = await self._platform.dead_letters(self._definitions.experiment_key, limit=_DEAD_LETTER_LIMIT)
        if totals is None or variants is None or letters is None:
            return None
        return Counted(totals.counted, totals.late, totals.duplicates, letters, variants)

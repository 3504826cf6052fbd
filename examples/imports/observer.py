"""Watches what the platform counts of one run, and says at the end how it compares with the truth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from examples.imports.definitions import Definitions
from examples.imports.domain.comparison import Comparison, Counted, compare
from examples.imports.domain.ledger import Ledger
from examples.imports.platform import Platform, PlatformError
from examples.imports.progress import Progress
from examples.imports.service import ImportService

_LOOK_SECONDS = 0.5
_QUIET_SECONDS = 3.0
"""What need not agree may still be on its way; after so long without a change it is not."""
_DEAD_LETTER_LIMIT = 10_000


class Observer:
    """Reads one run's figures through the REST API."""

    def __init__(self, platform: Platform, definitions: Definitions, experiment_id: int, ledger: Ledger) -> None:
        self._platform = platform
        self._definitions = definitions
        self._experiment_id = experiment_id
        self._ledger = ledger

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
            counted = await self._counted()
            if counted is not None:
                if latest is None or counted != latest.platform:
                    changed_at = loop.time()
                latest = compare(truth, counted)
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
            progress.observe(loop.time(), self._ledger)
            progress.importing = service.active
            totals = await self._platform.totals(self._definitions.metric("run_events"))
            if totals is not None:
                progress.counted, progress.late = totals.counted, totals.late
            variants = await self._platform.variants(self._experiment_id, self._definitions)
            if variants is not None:
                progress.variants = variants
            await asyncio.sleep(_LOOK_SECONDS)

    async def _counted(self) -> Counted | None:
        totals = await self._platform.totals(self._definitions.metric("run_events"))
        variants = await self._platform.variants(self._experiment_id, self._definitions)
        letters = await self._platform.dead_letters(self._definitions.experiment_key, limit=_DEAD_LETTER_LIMIT)
        if totals is None or variants is None or letters is None:
            return None
        return Counted(totals.counted, totals.late, totals.duplicates, letters, variants)

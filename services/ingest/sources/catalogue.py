"""This process's copy of all sources that there are, kept from their topic."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial

from services.ingest.domain.normalise import EventBody, Rejected
from services.ingest.domain.sources.definition import SourceDefinition
from services.ingest.sources.definitions import SourceSpecs, is_removed
from shared.definition_error import DefinitionError
from shared.messages import Source
from shared.sealing import SealError

logger = logging.getLogger(__name__)

Reader = Callable[[bytes], EventBody | Rejected]
"""What a message says."""


class Catalogue:
    """Of two definitions with one key the higher version is in force."""

    def __init__(self, specs: SourceSpecs) -> None:
        self._specs = specs
        self._versions: dict[tuple[str, str], int] = {}
        self._definitions: dict[tuple[str, str], SourceDefinition] = {}
        self._changed = asyncio.Event()

    def learn(self, message: Source) -> None:
        """For `Replica`. What cannot be used does not run."""
        name = message.organisation, message.key
        if message.version <= self._versions.get(name, 0):
            return
        self._versions[name] = message.version
        self._definitions.pop(name, None)
        if not is_removed(message.spec):
            try:
                self._definitions[name] = self._specs.definition(*name, message.version, message.spec)
            except (DefinitionError, SealError) as error:
                logger.error("a source cannot run", extra={"source": message.key, "error": str(error)})
        self.wake()

    def definitions(self) -> Iterable[SourceDefinition]:
        return self._definitions.values()

    def find(self, organisation: str, key: str) -> SourceDefinition | None:
        return self._definitions.get((organisation, key))

    def reader(self, organisation: str, origin: str) -> Reader | None:
        """What reads the dead letters of that origin; None if it is no source, or one that is gone."""
        definition = self.find(organisation, origin.removeprefix("source:")) if origin.startswith("source:") else None
        return None if definition is None else partial(definition.body, event_id="")

    def wake(self) -> None:
        """Whoever waits for a change looks again."""
        self._changed.set()

    async def changed(self, seconds: float) -> None:
        """Returns at a change, at the latest after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

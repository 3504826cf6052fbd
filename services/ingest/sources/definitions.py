"""Data sources as they are stored: one spec each, versioned, published on their topic, with their secrets sealed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.ingest.domain.sources.connections import PLACE
from services.ingest.domain.sources.definition import SourceDefinition, canonical, parse_source
from services.ingest.domain.sources.secrets import joined, merged, parted, with_kept
from shared import topics
from shared.definition_error import DefinitionError
from shared.definitions import DefinitionStore, Outcome, OutdatedError, check_size
from shared.kafka import Publisher
from shared.messages import Source
from shared.postgres import Pool
from shared.sealing import Sealer, SealError

logger = logging.getLogger(__name__)

_ATTEMPTS = 5
_REMOVED = "removed"


def is_removed(spec: Mapping[str, Any]) -> bool:
    return spec.get(_REMOVED) is True


class SourceSpecs:
    """Between what users write, with secrets, and what is stored, with an id and the secrets sealed."""

    def __init__(self, sealer: Sealer | None) -> None:
        self.sealer = sealer

    def stored(self, id: int, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Raises DefinitionError."""
        shown, secrets = parted(spec["connection_config"])
        given = {name: value for name, value in spec.items() if value is not None}
        content = {**given, "source_type": str(spec["source_type"]).lower(), "id": id, "connection_config": shown}
        if secrets:
            if self.sealer is None:
                what = "is secret, and this installation has no key to seal it with: set TIDEGATE_SEALING_KEYS"
                raise DefinitionError(f"{PLACE}.{next(iter(secrets))}", what)
            content["sealed"] = self.sealer.seal(_owner(id), secrets)
        return content

    def opened(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """As its user wrote it. Raises SealError."""
        spec = {name: value for name, value in stored.items() if name not in ("id", "sealed")}
        sealed = stored.get("sealed")
        if sealed is not None:
            if self.sealer is None:
                raise SealError("its secrets cannot be opened: TIDEGATE_SEALING_KEYS is not set")
            secrets = self.sealer.open(_owner(stored["id"]), sealed)
            spec["connection_config"] = joined(stored["connection_config"], secrets)
        return spec

    def definition(self, organisation: str, key: str, version: int, stored: Mapping[str, Any]) -> SourceDefinition:
        """Raises DefinitionError or SealError."""
        source_id = stored.get("id")
        if not isinstance(source_id, int):
            raise DefinitionError("id", "must be an integer")
        return parse_source(organisation, key, source_id, version, self.opened(stored))

    def canonical(self, stored: Mapping[str, Any]) -> Any:
        """Equal for what means the same: sealing the same secret twice gives different texts."""
        if is_removed(stored):
            return dict(stored)
        try:
            return {**canonical(self.opened(stored)), "id": stored["id"]}
        except SealError:
            return dict(stored)

    def sealed_anew(self, stored: Mapping[str, Any]) -> dict[str, Any] | None:
        """With the newest key; None if it is already, or cannot be."""
        sealed = stored.get("sealed")
        if sealed is None or self.sealer is None or self.sealer.is_newest(sealed):
            return None
        try:
            secrets = self.sealer.open(_owner(stored["id"]), sealed)
        except SealError:
            return None
        return {**stored, "sealed": self.sealer.seal(_owner(stored["id"]), secrets)}


def _owner(id: int) -> str:
    return f"source/{id}"


@dataclass(frozen=True, slots=True)
class StoredSource:
    """A source in force; `spec` is as stored."""

    organisation: str
    key: str
    version: int
    spec: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime

    @property
    def id(self) -> int:
        number: int = self.spec["id"]
        return number

    @property
    def enabled(self) -> bool:
        return self.spec.get("enabled", True) is True


_COLUMNS = "organisation, key, version, spec, created_at, updated_at"
_PRESENT = "organisation = $1 AND NOT spec ? 'removed'"


class SourceDefinitions:
    """All methods but `start` and `stop` raise what `RETRYABLE` lists."""

    def __init__(self, pool: Pool, publisher: Publisher, specs: SourceSpecs) -> None:
        self._pool = pool
        self._specs = specs
        self._store: DefinitionStore[Source] = DefinitionStore(
            pool, publisher, topic=topics.SOURCES, table="ingest.sources", canonical=specs.canonical
        )

    async def prepare(self, kafka: str) -> None:
        """Takes over what the topic holds and Postgres lacks, and seals anew what older keys have sealed.

        Call it once before `start`. Raises KafkaError, TimeoutError or what `RETRYABLE` lists.
        """

        await self._store.restore(kafka, _check_stored)
        await self._pool.execute(
            "SELECT setval('ingest.source_ids', greatest((SELECT max(id) + 1 FROM ingest.sources), "
            "(SELECT last_value + is_called::int FROM ingest.source_ids)), false)"
        )
        for row in await self._pool.fetch("SELECT organisation, key, version, spec FROM ingest.sources"):
            anew = self._specs.sealed_anew(row["spec"])
            if anew is not None:
                await self._pool.execute(
                    "UPDATE ingest.sources SET spec = $4, version = version + 1 "
                    "WHERE organisation = $1 AND key = $2 AND version = $3",
                    row["organisation"],
                    row["key"],
                    row["version"],
                    anew,
                )
                logger.info("the secrets of a source were sealed anew", extra={"source": row["key"]})

    async def start(self) -> None:
        await self._store.start()

    async def stop(self) -> None:
        await self._store.stop()

    async def create(self, organisation: str, key: str, spec: Mapping[str, Any]) -> StoredSource | None:
        """None if the organisation has a source of that key. Raises DefinitionError."""
        present = await self._row(organisation, key)
        if present is not None and not is_removed(present.spec):
            return None
        try:
            await self._write(organisation, key, spec, present, stored={})
        except OutdatedError:
            return None
        return await self.by_key(organisation, key)

    async def put(self, organisation: str, key: str, spec: object) -> tuple[Outcome, int]:
        """The source becomes what the spec says. Raises DefinitionError."""
        if not isinstance(spec, Mapping):
            raise DefinitionError("spec", "must be an object")
        for _ in range(_ATTEMPTS):
            row = await self._row(organisation, key)
            stored = {} if row is None or is_removed(row.spec) else self._readable(row.spec)
            try:
                outcome, version = await self._write(organisation, key, spec, row, stored=stored)
            except OutdatedError:
                continue
            gone = row is not None and is_removed(row.spec)
            return (Outcome.CREATED if gone else outcome), version
        raise TimeoutError("the source is changed by others all the time")

    async def patch(self, organisation: str, id: int, patch: Mapping[str, Any]) -> StoredSource | None:
        """Fields that are given replace those that are stored, those of `connection_config` one by one.

        None if there is no such source. Raises DefinitionError.
        """
        for _ in range(_ATTEMPTS):
            row = await self.by_id(organisation, id)
            if row is None:
                return None
            stored = self._readable(row.spec)
            spec = {**stored, **patch}
            if isinstance(patch.get(PLACE), Mapping):
                spec[PLACE] = merged(patch[PLACE], stored[PLACE])
            try:
                await self._write(organisation, row.key, spec, row, stored=stored)
            except OutdatedError:
                continue
            return await self.by_id(organisation, id)
        raise TimeoutError("the source is changed by others all the time")

    async def remove(self, organisation: str, id: int) -> bool:
        """Whether it was there. Its key can be used again."""
        row = await self.by_id(organisation, id)
        if row is None:
            return False
        await self._store.put(organisation, row.key, {_REMOVED: True, "id": id})
        return True

    async def by_id(self, organisation: str, id: int) -> StoredSource | None:
        row = await self._pool.fetchrow(
            f"SELECT {_COLUMNS} FROM ingest.sources WHERE {_PRESENT} AND id = $2", organisation, id
        )
        return None if row is None else StoredSource(*row)

    def fault(self, source: StoredSource) -> str | None:
        """Why no process can run it; None if one can."""
        try:
            self._specs.definition(source.organisation, source.key, source.version, source.spec)
        except (DefinitionError, SealError) as error:
            return str(error)
        return None

    async def by_key(self, organisation: str, key: str) -> StoredSource | None:
        row = await self._row(organisation, key)
        return None if row is None or is_removed(row.spec) else row

    async def all(
        self,
        organisation: str,
        *,
        type: str | None = None,
        enabled: bool | None = None,
        name: str | None = None,
        limit: int = 1_000,
        offset: int = 0,
    ) -> Sequence[StoredSource]:
        """In order of their ids. `name` is a part of it, in any case."""
        rows = await self._pool.fetch(
            f"SELECT {_COLUMNS} FROM ingest.sources WHERE {_PRESENT} AND ($2::text IS NULL OR "
            "spec ->> 'source_type' = $2) AND ($5::bool IS NULL OR coalesce((spec -> 'enabled')::bool, true) = $5) "
            "AND ($6::text IS NULL OR strpos(lower(coalesce(spec ->> 'source_name', key)), lower($6)) > 0) "
            "ORDER BY id LIMIT $3 OFFSET $4",
            organisation,
            type,
            limit,
            offset,
            enabled,
            name,
        )
        return [StoredSource(*row) for row in rows]

    async def _row(self, organisation: str, key: str) -> StoredSource | None:
        row = await self._pool.fetchrow(
            f"SELECT {_COLUMNS} FROM ingest.sources WHERE organisation = $1 AND key = $2", organisation, key
        )
        return None if row is None else StoredSource(*row)

    def _readable(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """With its secrets, as far as they can be opened: else they have to be given again."""
        try:
            return self._specs.opened(stored)
        except SealError:
            secretless = {**stored, PLACE: _without_hidden(stored[PLACE])}
            return {name: value for name, value in secretless.items() if name not in ("id", "sealed")}

    async def _write(
        self,
        organisation: str,
        key: str,
        spec: Mapping[str, Any],
        present: StoredSource | None,
        *,
        stored: Mapping[str, Any],
    ) -> tuple[Outcome, int]:
        """Raises DefinitionError, or OutdatedError if `present` is no longer what is stored."""
        check_size(spec)
        config = spec.get(PLACE)
        whole = {**spec, PLACE: with_kept(config, stored.get(PLACE) or {})} if isinstance(config, Mapping) else spec
        parse_source(organisation, key, 0, 1, whole)
        if present is not None and not is_removed(present.spec):
            id = present.id
        else:
            id = await self._pool.fetchval("SELECT nextval('ingest.source_ids')::int")
        version = 0 if present is None else present.version
        return await self._store.put(organisation, key, self._specs.stored(id, whole), expected=version)


def _check_stored(organisation: str, key: str, version: int, spec: Any) -> None:
    """Raises DefinitionError for what this table cannot hold."""
    if not isinstance(spec.get("id"), int) or not (is_removed(spec) or isinstance(spec.get(PLACE), Mapping)):
        raise DefinitionError("spec", "is no stored source")


def _without_hidden(config: Mapping[str, Any]) -> dict[str, Any]:
    _, secrets = parted(config)
    return {name: value for name, value in config.items() if name not in secrets}

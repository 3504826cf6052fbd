"""Data sources over REST: S2's /api/v1/streaming-analytics/data-sources, and /api/v1/admin/sources for `apply`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from services.ingest.domain.normalise import Rejected, normalised
from services.ingest.domain.sources.connections import SOURCE_TYPES
from services.ingest.domain.sources.definition import BUILT_IN, key_of
from services.ingest.domain.sources.mapping import parse_mapping
from services.ingest.sources.answers import BUILT_IN_SOURCE, DataSource, MappedSample, MappingResults, answer_of
from services.ingest.sources.definitions import SourceDefinitions, StoredSource
from services.ingest.sources.examples import MappingTest, SourceSpec
from services.ingest.sources.leases import Leases
from shared.clock import Clock
from shared.definition_error import DefinitionError
from shared.definition_routes import answer_put
from shared.http import Problem, StrictRoute, principal_of
from shared.keys import Principal
from shared.messages import Scope
from shared.paging import LINK, LINK_HEADER, next_page

PREFIX = "/api/v1/streaming-analytics/data-sources"
ADMIN_PREFIX = "/api/v1/admin/sources"

_Who = Annotated[Principal, Depends(principal_of)]
_Id = Annotated[int, Path(ge=1, le=2**31 - 1)]
_Key = Annotated[str, Path(max_length=128)]
_MAX_SAMPLES = 100
_SAMPLE_ID = "0" * 32
"""Stands for the id that an event of the source would get."""
_ENCODER = msgspec.json.Encoder()
_PAGES: dict[int | str, dict[str, Any]] = {200: {"headers": LINK_HEADER}}
_TAKEN: dict[int | str, dict[str, Any]] = {409: {"description": "The key is taken"}}
_BUILT_IN: dict[int | str, dict[str, Any]] = {409: {"description": "The built-in source stays as it is"}}


def needed_scope(method: str, path: str) -> Scope | None:
    """Looking takes a read key, changing an admin key; None for other paths."""
    if path.startswith(ADMIN_PREFIX):
        return "admin"
    if path != PREFIX and not path.startswith(f"{PREFIX}/"):
        return None
    return "read" if method in ("GET", "HEAD") else "admin"


class _Sources:
    """What the routes share."""

    def __init__(self, definitions: SourceDefinitions, leases: Leases) -> None:
        self.definitions = definitions
        self._leases = leases

    async def answers(self, stored: Sequence[StoredSource]) -> list[DataSource]:
        runs = await self._leases.seen([source.id for source in stored])
        return [answer_of(source, runs.get(source.id), self.definitions.fault(source)) for source in stored]

    async def answer(self, stored: StoredSource) -> DataSource:
        return (await self.answers([stored]))[0]

    async def patched(self, who: Principal, id: int, patch: Mapping[str, Any]) -> DataSource:
        """Raises Problem."""
        _refuse_built_in(id)
        try:
            stored = await self.definitions.patch(who.organisation, id, patch)
        except DefinitionError as error:
            raise _invalid(error) from None
        if stored is None:
            raise _unknown(id)
        return await self.answer(stored)


def _is_wanted(source: DataSource, type: str | None, enabled: bool | None, name: str | None) -> bool:
    return (
        type in (None, source.source_type)
        and enabled in (None, source.enabled)
        and (name is None or name.lower() in source.source_name.lower())
    )


def source_routes(definitions: SourceDefinitions, leases: Leases, clock: Clock) -> APIRouter:
    routes = APIRouter(route_class=StrictRoute, prefix=PREFIX, tags=["data sources"])
    sources = _Sources(definitions, leases)

    @routes.post("", status_code=201, summary="Create data source", responses=_TAKEN)
    async def create_data_source(body: SourceSpec, who: _Who) -> DataSource:
        """Begins to run at once. `key` names it for ever; without one it is made of the name."""
        spec = {name: value for name, value in body.items() if name != "key"}
        try:
            _check_name(spec)
            key = body.get("key")
            if key is not None and not isinstance(key, str):
                raise DefinitionError("key", "must be a text")
            stored = await definitions.create(who.organisation, key or key_of(spec["source_name"]), spec)
        except DefinitionError as error:
            raise _invalid(error) from None
        if stored is None:
            raise Problem(409, "source_exists", "there is a source of that key; give this one another `key`")
        return await sources.answer(stored)

    @routes.get("", summary="List data sources", responses=_PAGES)
    async def list_data_sources(
        who: _Who,
        request: Request,
        response: Response,
        source_type: Annotated[str | None, Query(max_length=50)] = None,
        enabled: bool | None = None,
        source_name: Annotated[
            str | None, Query(min_length=1, max_length=200, description="A part of it, in any case")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> list[DataSource]:
        """The built-in source first, then in the order in which they were made. A `Link` leads to the next page."""
        type = None if source_type is None else source_type.lower()
        built_in = [BUILT_IN_SOURCE] if _is_wanted(BUILT_IN_SOURCE, type, enabled, source_name) else []
        first = built_in[offset:]
        rest = limit - len(first)
        stored = await definitions.all(
            who.organisation,
            type=type,
            enabled=enabled,
            name=source_name,
            limit=rest + 1,
            offset=max(0, offset - len(built_in)),
        )
        if len(stored) > rest:
            response.headers[LINK] = next_page(request, offset=offset + limit)
        return [*first, *await sources.answers(stored[:rest])]

    @routes.post("/mapping/test", summary="Try a mapping")
    async def try_mapping(body: MappingTest, who: _Who) -> MappingResults:
        """What `mapping` makes of each of `samples`; nothing is stored."""
        samples = body.get("samples")
        if not isinstance(samples, list) or not 1 <= len(samples) <= _MAX_SAMPLES:
            raise _invalid(DefinitionError("samples", f"must be a list of 1 to {_MAX_SAMPLES} messages"))
        try:
            mapping = parse_mapping(body.get("mapping"))
        except DefinitionError as error:
            raise _invalid(error) from None
        results = []
        for sample in samples:
            body_of_event = mapping.body(
                _raw(sample), event_id="00000000000000000000000000000000", source_id=BUILT_IN
            )
            results.append(_tried(body_of_event, who.organisation, clock()))
        return MappingResults(results=results)

    @routes.get("/{id}", summary="Get data source")
    async def get_data_source(id: _Id, who: _Who) -> DataSource:
        if id == BUILT_IN:
            return BUILT_IN_SOURCE
        stored = await definitions.by_id(who.organisation, id)
        if stored is None:
            raise _unknown(id)
        return await sources.answer(stored)

    @routes.patch("/{id}", summary="Update data source", responses=_BUILT_IN)
    async def update_data_source(id: _Id, body: SourceSpec, who: _Who) -> DataSource:
        """Fields of `connection_config` that are left out stay as they are, secrets too; null removes one."""
        if "key" in body:
            raise _invalid(DefinitionError("key", "cannot be changed"))
        return await sources.patched(who, id, body)

    @routes.delete("/{id}", summary="Remove data source", responses=_BUILT_IN)
    async def delete_data_source(id: _Id, who: _Who) -> dict[str, Any]:
        """It stops; its events stay."""
        _refuse_built_in(id)
        if not await definitions.remove(who.organisation, id):
            raise _unknown(id)
        return {"id": id, "status": "removed"}

    @routes.post("/{id}/pause", summary="Pause data source", responses=_BUILT_IN)
    async def pause_data_source(id: _Id, who: _Who) -> DataSource:
        """It stops and keeps its place."""
        return await sources.patched(who, id, {"enabled": False})

    @routes.post("/{id}/resume", summary="Resume data source", responses=_BUILT_IN)
    async def resume_data_source(id: _Id, who: _Who) -> DataSource:
        return await sources.patched(who, id, {"enabled": True})

    return routes


def admin_source_routes(definitions: SourceDefinitions, leases: Leases) -> APIRouter:
    routes = APIRouter(route_class=StrictRoute, prefix=ADMIN_PREFIX, tags=["data sources"])
    sources = _Sources(definitions, leases)

    @routes.put("/{key}", summary="Apply source", responses={201: {"description": "Created"}})
    async def put_source(key: _Key, spec: SourceSpec, who: _Who, response: Response) -> dict[str, Any]:
        """Makes the source what the spec says. A secret given as ******** stays as it is."""
        return await answer_put(response, key, _placed(definitions.put(who.organisation, key, spec)))

    @routes.get("", summary="List sources")
    async def list_sources(who: _Who) -> list[DataSource]:
        return await sources.answers(await definitions.all(who.organisation))

    @routes.get("/{key}", summary="Show source")
    async def get_source(key: _Key, who: _Who) -> DataSource:
        stored = await definitions.by_key(who.organisation, key)
        if stored is None:
            hint = f"define it with PUT {ADMIN_PREFIX}/{key}"
            raise Problem(404, "source_unknown", f"no source {key!r}; {hint}")
        return await sources.answer(stored)

    return routes


async def _placed(putting: Any) -> Any:
    """Places of faults as `tidegate apply` looks for them: within the document's `spec`."""
    try:
        return await putting
    except DefinitionError as error:
        place = error.place if error.place in ("key", "spec") else f"spec.{error.place}"
        raise DefinitionError(place, error.what) from None


def _check_name(spec: Mapping[str, Any]) -> None:
    name = spec.get("source_name")
    if not isinstance(name, str) or not name.strip():
        raise DefinitionError("source_name", "is missing: a text of 1 to 200 characters")


def _raw(sample: Any) -> bytes:
    """A text is taken as the message itself, whatever it holds."""
    return sample.encode("utf-8", "surrogatepass") if isinstance(sample, str) else _ENCODER.encode(sample)


def _tried(body: Any, organisation: str, now: int) -> MappedSample:
    verdict = body
    if not isinstance(body, Rejected):
        verdict = normalised(body, organisation=organisation, received_at=now, context={}, new_id=str)
    if isinstance(verdict, Rejected):
        return MappedSample(reason=verdict.reason.value, detail=verdict.detail)
    return MappedSample(event=msgspec.to_builtins(verdict))


def _refuse_built_in(id: int) -> None:
    if id == BUILT_IN:
        raise Problem(409, "source_built_in", "the built-in source can neither be changed nor removed")


def _unknown(id: int) -> Problem:
    return Problem(404, "source_unknown", f"there is no data source {id}")


def _invalid(error: DefinitionError) -> Problem:
    extra: dict[str, Any] = {"place": error.place}
    if error.place == "source_type":
        extra["source_types"] = list(SOURCE_TYPES)
    return Problem(422, "definition_invalid", str(error), extra=extra)

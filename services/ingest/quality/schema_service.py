"""Schemas within the ingest service."""

from __future__ import annotations

from contextlib import AsyncExitStack

from fastapi import APIRouter

from services.ingest.background import Backends, run_in_background
from services.ingest.domain.quality.schema import parse_schema
from services.ingest.kept_definitions import KeptDefinitions
from services.ingest.quality.inspections import Inspections
from services.ingest.quality.schema_api import schema_routes
from services.ingest.quality.schema_history import SchemaHistory
from services.ingest.quality.schemas import Schemas
from shared.clock import Clock
from shared.messages import Schema
from shared.topics import SCHEMAS


async def start_schemas(
    backends: Backends, inspections: Inspections, clock: Clock, resources: AsyncExitStack
) -> APIRouter:
    """Returns when all schemas that have been published are in force; Postgres may be away. `resources` stops it."""
    kept: KeptDefinitions[Schema] = KeptDefinitions(
        backends.pool,
        backends.publisher,
        backends.kafka,
        topic=SCHEMAS,
        table="ingest.schemas",
        check=parse_schema,
        learn=Schemas(inspections).learn,
    )
    run_in_background(kept.run(), "schemas", resources)
    await kept.caught_up()
    return schema_routes(kept, SchemaHistory(backends.pool), clock)

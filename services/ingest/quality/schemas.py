"""Each organisation's schemas, from their topic into its inspection."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from services.ingest.domain.quality.inspection import Stage
from services.ingest.domain.quality.schema import EventSchema, SchemaCheck, parse_schema
from services.ingest.quality.inspections import Inspections
from shared.definition_error import DefinitionError

logger = logging.getLogger(__name__)


class Schemas:
    """Feed `learn` with all schemas; events that come in afterwards are judged by them."""

    def __init__(self, inspections: Inspections) -> None:
        self._inspections = inspections
        self._schemas: dict[str, dict[str, EventSchema]] = {}

    def learn(self, organisation: str, event_type: str, spec: Mapping[str, Any] | None) -> None:
        """None if the schema is removed. By one that cannot be read here nothing is judged."""
        schemas = dict(self._schemas.get(organisation, {}))
        schemas.pop(event_type, None)
        if spec is not None:
            try:
                schemas[event_type] = parse_schema(event_type, spec)
            except DefinitionError as error:
                extra = {"organisation": organisation, "event_type": event_type, "error": str(error)}
                logger.error("a schema cannot be read: events of its type are not judged by it", extra=extra)
        self._schemas[organisation] = schemas
        self._inspections.put(organisation, Stage.SCHEMA, SchemaCheck(schemas) if schemas else None)

"""A data source as its owner defines it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.ingest.domain.compat.cloudevents import event_of
from services.ingest.domain.normalise import EventBody, Rejected
from services.ingest.domain.sources.connections import (
    CLOUDEVENTS,
    Connection,
    KafkaConnection,
    WebhookConnection,
    parse_connection,
)
from services.ingest.domain.sources.fields import Fields
from services.ingest.domain.sources.mapping import Mapping as EventMapping
from services.ingest.domain.sources.mapping import parse_mapping
from shared.definition_error import DefinitionError

BUILT_IN = 1
"""The id of the source that events have which were sent to us."""

MAX_NAME = 200
_MAX_DESCRIPTION = 2_000
_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
FIELDS = frozenset({"source_name", "source_type", "connection_config", "description", "mapping", "enabled"})


@dataclass(frozen=True, slots=True)
class SourceDefinition:
    """Checked and complete, secrets included (in `connection`, which does not show them)."""

    organisation: str
    key: str
    id: int
    version: int
    name: str
    type: str
    connection: Connection
    mapping: EventMapping
    enabled: bool

    @property
    def is_read(self) -> bool:
        """Whether some process has to read it: a webhook is sent to whichever answers."""
        return not isinstance(self.connection, WebhookConnection)

    @property
    def origin(self) -> str:
        """As its dead letters name it."""
        return f"source:{self.key}"

    def body(self, raw: bytes, *, event_id: str) -> EventBody | Rejected:
        """What a message says. `event_id` names an event to which the message gives no id.

        A CloudEvent has an id of its own; a mapping that reads one may say otherwise, but not that it is none.
        """
        if not (isinstance(self.connection, KafkaConnection) and self.connection.format == CLOUDEVENTS):
            return self.mapping.body(raw, event_id=event_id, source_id=self.id)
        event = event_of(raw)
        if isinstance(event, Rejected) or not self.mapping.fields:
            if isinstance(event, EventBody):
                event.data_source_id = self.id
            return event
        body = self.mapping.body(raw, event_id=str(event.event_id), source_id=self.id)
        if isinstance(body, EventBody) and body.event_timestamp is None:
            body.event_timestamp = event.event_timestamp
        return body


def check_key(key: str) -> str:
    """Raises DefinitionError."""
    if not _KEY.fullmatch(key):
        raise DefinitionError("key", "1 to 64 lower-case letters, digits, '_', '.' or '-', not beginning with a mark")
    return key


def key_of(name: str) -> str:
    """A key made of the source's name. Raises DefinitionError if it holds nothing to make one of."""
    ascii_text = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    key = re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")[:64].rstrip("-")
    if not key:
        raise DefinitionError("key", "give one: none can be made of this source_name")
    return key


def parse_source(organisation: str, key: str, id: int, version: int, spec: object) -> SourceDefinition:
    """`spec` is a REST body with its secrets. Raises DefinitionError."""
    check_key(key)
    fields = Fields(spec, set(FIELDS))
    source_type = fields.raw("source_type")
    if not isinstance(source_type, str):
        raise DefinitionError("source_type", "is missing: it must be a text")
    fields.optional("description", longest=_MAX_DESCRIPTION)
    config: Any = fields.raw("connection_config")
    return SourceDefinition(
        organisation=organisation,
        key=key,
        id=id,
        version=version,
        name=fields.optional("source_name", longest=MAX_NAME) or key,
        type=source_type.lower(),
        connection=parse_connection(source_type.lower(), {} if config is None else config, key),
        mapping=parse_mapping(fields.raw("mapping")),
        enabled=fields.flag("enabled", True),
    )


def canonical(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Two specs that mean the same look the same."""
    given = {name: value for name, value in spec.items() if value is not None}
    return {
        **given,
        "source_type": str(given.get("source_type", "")).lower(),
        "enabled": given.get("enabled", True),
        "mapping": given.get("mapping") or {},
    }

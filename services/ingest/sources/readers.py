"""Which reader belongs to which connection."""

from __future__ import annotations

from functools import partial

from services.ingest.domain.sources.connections import (
    HttpConnection,
    KafkaConnection,
    SseConnection,
    WebhookConnection,
    WebSocketConnection,
)
from services.ingest.domain.sources.definition import SourceDefinition
from services.ingest.sources.http_reader import read_http
from services.ingest.sources.kafka_reader import read_kafka
from services.ingest.sources.own_kafka import OwnKafka
from services.ingest.sources.reader import Read
from services.ingest.sources.sse_reader import read_sse
from services.ingest.sources.websocket_reader import read_websocket


def reader_of(definition: SourceDefinition, *, own: OwnKafka) -> Read:
    match definition.connection:
        case KafkaConnection() as connection:
            return partial(read_kafka, connection, own)
        case HttpConnection() as connection:
            return partial(read_http, connection)
        case WebSocketConnection() as connection:
            return partial(read_websocket, connection)
        case SseConnection() as connection:
            return partial(read_sse, connection)
        case WebhookConnection():
            raise ValueError("nobody reads a webhook")

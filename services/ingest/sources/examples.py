"""What data sources look like, for the documentation of the API. Every example is one that is accepted."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body

SOURCES: dict[str, Any] = {
    "kafka": {
        "summary": "A topic of another Kafka, as a consumer group",
        "description": "`auto_offset_reset` (latest or earliest) says where a new group begins. With TLS or a "
        "password: `security_protocol`, `sasl_mechanism`, `sasl_username`, `sasl_password`, `ssl_ca`. "
        "With `format: cloudevents` each record is a CloudEvent.",
        "value": {
            "source_name": "Production Events",
            "source_type": "kafka",
            "connection_config": {
                "bootstrap_servers": ["kafka-1:9092", "kafka-2:9092"],
                "topic": "production.events",
                "group_id": "erp-consumer",
                "auto_offset_reset": "latest",
            },
            "description": "Production event stream",
            "mapping": {
                "event_type": {"value": "order_placed"},
                "event_timestamp": {"path": "created", "format": "unix_ms"},
                "user_id": "customer.id",
                "event_data": {"amount": {"path": "total", "type": "number"}, "currency": {"value": "EUR"}},
            },
        },
    },
    "websocket": {
        "summary": "A WebSocket that somebody serves",
        "description": "With `resume` (a path within messages) and `resume_parameter` it goes on after a break where "
        "the last stored message stands.",
        "value": {
            "source_name": "Real-time Sensor Data",
            "source_type": "websocket",
            "connection_config": {"url": "wss://sensors.example.com/stream", "auth_token": "your-token-here"},
        },
    },
    "http": {
        "summary": "An address that is asked every minute",
        "description": "`items` is where the list stands in the answer, `item_id` what names an item. Further pages: "
        "`cursor` with `cursor_parameter`, or `next_link`.",
        "value": {
            "source_name": "Orders",
            "source_type": "http",
            "connection_config": {
                "url": "https://shop.example.com/api/orders",
                "auth_token": "your-token-here",
                "interval_seconds": 60,
                "items": "data",
                "item_id": "id",
                "cursor": "meta.next_cursor",
                "cursor_parameter": "after",
            },
            "mapping": {"event_type": {"value": "order_placed"}, "event_data": "@"},
        },
    },
    "sse": {
        "summary": "Server-sent events",
        "value": {
            "source_name": "Changes",
            "source_type": "sse",
            "connection_config": {"url": "https://stream.example.com/changes", "silence_seconds": 90},
        },
    },
}

SOURCES["webhook"] = {
    "summary": "A webhook: POST /api/v1/streaming-analytics/webhooks/{key}",
    "description": "`scheme` is github, stripe, slack or hmac (with `header`, `algorithm`, `encoding`, `prefix`). "
    "With `include_headers` the mapping sees {headers, body} instead of the body.",
    "value": {
        "source_name": "Pushes",
        "source_type": "webhook",
        "connection_config": {"scheme": "github", "secret": "shared-secret", "include_headers": ["X-GitHub-Event"]},
        "mapping": {
            "event_type": "join('_', ['github', headers.\"x-github-event\"])",
            "event_data": {"repository": "body.repository.full_name"},
        },
    },
}

MAPPING_TESTS: dict[str, Any] = {
    "orders": {
        "summary": "A mapping and a message",
        "value": {
            "mapping": {
                "event_type": {"value": "order_placed"},
                "event_timestamp": {"path": "created", "format": "unix_ms"},
                "user_id": "customer.id",
                "event_data": {"amount": {"path": "total", "type": "number"}},
            },
            "samples": [{"created": 1767323045678, "customer": {"id": 42}, "total": "99.99"}],
        },
    },
}

SourceSpec = Annotated[dict[str, Any], Body(openapi_examples=SOURCES)]
MappingTest = Annotated[dict[str, Any], Body(openapi_examples=MAPPING_TESTS)]

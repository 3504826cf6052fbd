"""The kinds of telemetry as one JSON Schema, from the types that check them."""

from __future__ import annotations

from typing import Any

import msgspec

from services.ingest.domain.telemetry.kinds import KINDS, OF_A_JOB

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def telemetry_schema() -> dict[str, Any]:
    """Valid is every event of another type, and each of these types that holds what its kind demands."""
    refs, definitions = msgspec.json.schema_components(KINDS.values(), ref_template="#/$defs/{name}")
    return {
        "$schema": _DIALECT,
        "title": "Telemetry of WebSocket connections and background jobs",
        "type": "object",
        "required": ["event_type"],
        "properties": {"event_type": {"type": "string"}},
        "allOf": [
            {
                "if": {"required": ["event_type"], "properties": {"event_type": {"const": event_type}}},
                "then": {"required": _required(event_type), "properties": {"event_data": ref}},
            }
            for event_type, ref in zip(KINDS, refs, strict=True)
        ],
        "$defs": definitions,
    }


def _required(event_type: str) -> list[str]:
    fields = msgspec.structs.fields(KINDS[event_type])
    data = ["event_data"] if any(field.required for field in fields) else []
    return [*data, "job_id"] if event_type in OF_A_JOB else data


def as_text() -> str:
    """As it stands in docs/telemetry.schema.json, for editors."""
    return (
        msgspec.json.format(msgspec.json.encode(telemetry_schema(), order="deterministic"), indent=2).decode() + "\n"
    )


if __name__ == "__main__":
    print(as_text(), end="")

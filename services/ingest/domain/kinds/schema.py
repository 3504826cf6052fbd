"""Each family of kinds as one JSON Schema, from the types that check them."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from services.ingest.domain.kinds.catalogue import FAMILIES
from services.ingest.domain.kinds.family import Demand, Family

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(family: Family) -> dict[str, Any]:
    """Valid is every event of another type, and each of these types that holds what its kind demands."""
    fields = [demand.fields for demand in family.kinds.values()]
    refs, definitions = msgspec.json.schema_components(fields, ref_template="#/$defs/{name}")
    return {
        "$schema": _DIALECT,
        "title": family.title,
        "type": "object",
        "required": ["event_type"],
        "properties": {"event_type": {"type": "string"}},
        "allOf": [
            {"if": _is(event_type, demand), "then": _demanded(demand, ref)}
            for (event_type, demand), ref in zip(family.kinds.items(), refs, strict=True)
        ],
        "$defs": definitions,
    }


def _is(event_type: str, demand: Demand) -> dict[str, Any]:
    of_type = {"required": ["event_type"], "properties": {"event_type": {"const": event_type}}}
    if not demand.marks:
        return of_type
    marked = [{"required": [mark]} for mark in demand.marks]
    data = marked[0] if len(marked) == 1 else {"anyOf": marked}
    return {
        "required": ["event_type", "event_data"],
        "properties": {"event_type": {"const": event_type}, "event_data": {"type": "object", **data}},
    }


def _demanded(demand: Demand, ref: dict[str, Any]) -> dict[str, Any]:
    required = ["event_data"] if any(f.required for f in msgspec.structs.fields(demand.fields)) else []
    if len(demand.ids) == 1:
        required += demand.ids
    data: dict[str, Any] = ref
    if demand.needs:
        data = {
            "allOf": [
                ref,
                *(
                    {
                        "if": {"required": [name], "properties": {name: {"const": text}}},
                        "then": {"required": [needed], "properties": {needed: {"not": {"type": "null"}}}},
                    }
                    for (name, text), needed in demand.needs.items()
                ),
            ]
        }
    demanded: dict[str, Any] = {"required": required, "properties": {"event_data": data}}
    if len(demand.ids) > 1:
        demanded["anyOf"] = [{"required": [id]} for id in demand.ids]
    return demanded


def as_text(family: Family) -> str:
    """As it stands in docs/, for editors."""
    return (
        msgspec.json.format(msgspec.json.encode(schema_of(family), order="deterministic"), indent=2).decode() + "\n"
    )


if __name__ == "__main__":
    print(as_text(next(family for family in FAMILIES if family.name == sys.argv[1])), end="")

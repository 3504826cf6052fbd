"""Whether an event that says that it is of a known kind is what that kind demands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from services.ingest.domain.kinds.catalogue import DEMANDS
from services.ingest.domain.kinds.family import Demand
from shared.messages import Event


def fault_of(event: Event) -> str | None:
    """What is wrong with it, naming the field; None for a valid one and for every event of no known kind."""
    demand = DEMANDS.get(event.event_type)
    if demand is None or not demand.applies_to(event.properties):
        return None
    fault = fault_in(demand, event.properties)
    if fault is None and demand.ids and all(getattr(event, id) is None for id in demand.ids):
        names = " or ".join(f"`{id}`" for id in demand.ids)
        fault = f"Object missing required field {names}"
    return None if fault is None else f"{event.event_type}: {fault}"


def fault_in(demand: Demand, data: Mapping[str, Any], place: str = "event_data.") -> str | None:
    """What is wrong with what an event holds; `place` stands before a field's name."""
    try:
        msgspec.convert(_with_whole_numbers(data), demand.fields)
    except msgspec.ValidationError as error:
        return _in_words(str(error), demand, place)
    for (name, text), needed in demand.needs.items():
        if data.get(name) == text and data.get(needed) is None:
            return f"Object missing required field `{needed}`, for `{name}` is {text}"
    return None


def _in_words(error: str, demand: Demand, place: str) -> str:
    if error.startswith("Invalid enum value"):  # names the value, which a detail must not
        name = error.rpartition("`$.")[2].rstrip("`")
        hint = get_type_hints(demand.fields).get(name)
        known = f"one of {', '.join(get_args(hint))}" if get_origin(hint) is Literal else "another value"
        error = f"Expected {known} - at `$.{name}`"
    return error.replace("`$.", f"`{place}")


def _with_whole_numbers(data: Mapping[str, Any]) -> dict[str, Any]:
    """5.0 is the count 5, as in clients whose numbers are all floats, and as JSON Schema has it."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in data.items()
    }

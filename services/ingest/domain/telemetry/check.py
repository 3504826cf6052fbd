"""Whether an event that calls itself telemetry is what its kind demands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from services.ingest.domain.telemetry.kinds import KINDS, OF_A_JOB
from shared.messages import Event


def fault_of(event: Event) -> str | None:
    """What is wrong with it, naming the field; None for a valid one and for every event of another type."""
    kind = KINDS.get(event.event_type)
    if kind is None:
        return None
    try:
        msgspec.convert(_with_whole_numbers(event.properties), kind)
    except msgspec.ValidationError as error:
        return f"{event.event_type}: {str(error).replace('`$.', '`event_data.')}"
    if event.event_type in OF_A_JOB and event.job_id is None:
        return f"{event.event_type}: Object missing required field `job_id`"
    return None


def _with_whole_numbers(properties: Mapping[str, Any]) -> dict[str, Any]:
    """5.0 is the count 5, as in clients whose numbers are all floats, and as JSON Schema has it."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in properties.items()
    }

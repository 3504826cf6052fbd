"""An event as the generator draws it, and as a client sends it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from shared.clock import to_iso


class Fate(Enum):
    """What must become of an event, whatever happens on its way."""

    COUNTED = "counted"
    LATE = "late"
    """Past grace: reported, not counted."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """`kind` is the event type without the run's prefix; `time` in µs."""

    id: str
    kind: str
    type: str
    time: int
    fate: Fate
    user: str
    session: str | None = None
    job: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)

    @property
    def cents(self) -> int | None:
        """The amount in whole cents; None where there is no amount that a metric could read."""
        amount = self.properties.get("amount")
        return round(amount * 100) if type(amount) is float and amount < 1e9 else None

    def body(self) -> dict[str, Any]:
        """One element of a batch for `POST …/events/batch`."""
        return {
            "event_id": self.id,
            "event_type": self.type,
            "event_timestamp": to_iso(self.time),
            "event_data": self.properties,
            "user_id": self.user,
            "session_id": self.session,
            "job_id": self.job,
        }

"""Events that are valid and yet not stored, because their organisation wants it so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from services.ingest.domain.normalise import Reason, Rejected
from shared.messages import Event


class Aside(Enum):
    """Why an event is set aside; the value is what clients, metrics and dead letters read."""

    SCHEMA_MISMATCH = Reason.SCHEMA_MISMATCH.value
    """Its data is not as its event type's schema says."""
    BOT = "bot"
    SAMPLED_OUT = "sampled_out"


class Status(Enum):
    QUARANTINED = "quarantined"
    """Kept as a dead letter, to be looked at, corrected and replayed."""
    DROPPED = "dropped"
    """Kept nowhere."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """The sender has done nothing wrong, and sending it again changes nothing."""

    reason: Aside
    detail: str
    event_id: str | None = None

    @property
    def status(self) -> Status:
        return Status.QUARANTINED if self.reason is Aside.SCHEMA_MISMATCH else Status.DROPPED


class WarnedEvent(Event, frozen=True, kw_only=True):
    """Stored like any other; its `context` says under `WARNING` what is wrong with it."""


WARNING = "schemaWarning"

Verdict = Event | Rejected | SetAside


def becomes_letter(verdict: Verdict) -> bool:  # a property of the value, no decision
    """Whether a dead letter keeps it."""
    return isinstance(verdict, Rejected) or (isinstance(verdict, SetAside) and verdict.status is Status.QUARANTINED)

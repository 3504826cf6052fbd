"""How one organisation's events are looked at after they have been found valid, and before they are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Protocol

from services.ingest.domain.quality.aside import Verdict
from services.ingest.domain.quality.guard import Guard
from shared.messages import Event


class Stage(IntEnum):
    """In this order: what is not wanted costs no more work, and schemas see values as they were sent."""

    BOTS = 1
    SAMPLING = 2
    SCHEMA = 3
    PRIVACY = 4


class Check(Protocol):
    """Judges one event; what it gives back, if it is an event, goes on to the next check and may have been changed.

    It raises nothing for any event. `received_at` is in microseconds UTC.
    """

    def __call__(self, event: Event, received_at: int) -> Verdict: ...


class Inspection:
    """The checks of one organisation. `guard`, if it has one, is its check of PRIVACY, and decides about letters."""

    def __init__(self, checks: Mapping[Stage, Check]) -> None:
        privacy = checks.get(Stage.PRIVACY)
        self.guard = privacy if isinstance(privacy, Guard) else None
        self._checks: Sequence[Check] = [checks[stage] for stage in sorted(checks)]

    def judge(self, event: Event, received_at: int) -> Verdict:
        for check in self._checks:
            verdict = check(event, received_at)
            if not isinstance(verdict, Event):
                return verdict
            event = verdict
        return event

"""How a source does, as people see it. The counts go on when another process takes the source over."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

from shared.clock import to_iso

_MAX_ERROR = 500


class State(Enum):
    STARTING = "starting"
    RUNNING = "running"
    RETRYING = "retrying"
    """It failed, and will try again after a pause."""
    PAUSED = "paused"
    FAILED = "failed"
    """It cannot run until somebody changes it."""
    WAITING = "waiting"
    """No process has taken it yet."""


class Health(msgspec.Struct):
    """Changed by the one run that it belongs to. Times are microseconds UTC."""

    state: State = State.STARTING
    events: int = 0
    """Accepted, since the source was made."""
    invalid: int = 0
    """Dead-lettered."""
    restarts: int = 0
    failures: int = 0
    """In a row, up to now."""
    lag: int | None = None
    """Messages that the far end has and we have not read, where it tells."""
    last_event_at: int | None = None
    last_error: str | None = None
    last_error_at: int | None = None

    def works(self) -> None:
        """The far end answers as it should."""
        self.state = State.RUNNING
        self.failures = 0

    def took(self, events: int, invalid: int, now: int) -> None:
        self.events += events
        self.invalid += invalid
        if events:
            self.last_event_at = now

    def noticed(self, error: str, now: int) -> None:
        """Something is wrong, but the run goes on. What the far end says may hold what no JSON text can."""
        shown = "".join(c if c.isprintable() else "\ufffd" for c in error[:_MAX_ERROR])
        self.last_error, self.last_error_at = shown, now

    def refused(self, error: str, now: int) -> None:
        """It cannot run as it is defined."""
        self.state = State.FAILED
        self.failures += 1
        self.noticed(error, now)

    def failed(self, error: str, now: int) -> None:
        self.state = State.RETRYING
        self.failures += 1
        self.restarts += 1
        self.noticed(error, now)

    def as_json(self) -> dict[str, Any]:
        """As it is stored."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return content


def health_of(stored: Mapping[str, Any]) -> Health:
    """What an earlier holder stored; nothing of it that cannot be read."""
    try:
        return msgspec.convert(stored, Health)
    except msgspec.ValidationError:
        return Health()


def shown(health: Health, state: State) -> dict[str, Any]:
    """For an answer over HTTP."""
    return {
        "state": state.value,
        "events": health.events,
        "invalid": health.invalid,
        "restarts": health.restarts,
        "lag": health.lag,
        "last_event_at": None if health.last_event_at is None else to_iso(health.last_event_at),
        "last_error": health.last_error,
        "last_error_at": None if health.last_error_at is None else to_iso(health.last_error_at),
    }

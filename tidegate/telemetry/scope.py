"""What connections and jobs have in common: whose events they record, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from tidegate.telemetry.context import ClientContext

MAX_NAME = 100
"""Characters of a name: what waits is bounded by its number, so that none may be large."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom an event is about."""

    pipeline: str = "unknown"
    job_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    context: ClientContext | None = None


class Recorder(Protocol):
    """`Telemetry`, as its parts use it. `monotonic` is in seconds."""

    def note(self, event_type: str, data: dict[str, Any], subject: Subject) -> None:
        """`data` is small and belongs to the recorder from now on."""

    def monotonic(self) -> float: ...


def error_fields(pipeline: str, code: str, provider: str | None, retryable: bool) -> dict[str, Any]:
    """As `websocket_error` tells it."""
    fields: dict[str, Any] = {"pipeline": pipeline, "errorCode": code[:MAX_NAME], "retryable": retryable}
    return fields if provider is None else {**fields, "provider": provider[:MAX_NAME]}


def milliseconds(seconds: float) -> float:
    """To the microsecond."""
    return round(seconds * 1_000, 3)

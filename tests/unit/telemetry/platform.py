"""A platform in memory, as the telemetry client meets it."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from tidegate.telemetry import Policy, Telemetry
from tidegate.telemetry.transport import Answer, LostError

QUICK = Policy(linger=0.001, first_pause=0.001, longest_pause=0.01)

Meets = Callable[[list[dict[str, Any]]], Answer | LostError | None]
"""What becomes of a request; None: all of its events are accepted."""


class Platform:
    """A `Transport` for as many clients as there are. `meets` decides on each request."""

    def __init__(self) -> None:
        self.meets: Meets = lambda events: None
        self.requests: list[list[dict[str, Any]]] = []
        self.accepted: Counter[str] = Counter()
        """Event id → how often it was taken."""
        self.events: list[dict[str, Any]] = []
        self.gate = threading.Event()
        self.gate.set()

    def post(self, body: bytes) -> Answer:
        self.gate.wait()
        events = json.loads(body)["events"]
        self.requests.append(events)
        met = self.meets(events)
        if isinstance(met, LostError):
            raise met
        return met or self.take(events)

    def close(self) -> None: ...

    def take(self, events: list[dict[str, Any]]) -> Answer:
        for event in events:
            if not self.accepted[event["event_id"]]:
                self.events.append(event)
            self.accepted[event["event_id"]] += 1
        results = [{"event_id": event["event_id"], "status": "accepted"} for event in events]
        return Answer(202, json.dumps({"accepted": len(events), "results": results}).encode())

    def client(self, policy: Policy = QUICK, **options: Any) -> Telemetry:
        return Telemetry("http://platform", "key", policy=policy, connect=lambda: self, **options)

    def told(self, event_type: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event_type"] == event_type]

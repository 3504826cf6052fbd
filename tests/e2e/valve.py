"""A whole guardrail in a running stack: metrics, flag, breaker and channels, and what a client of it can ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from deploy.local.stack import LocalStack
from shared.clock import system_clock, to_iso
from tests.patient import PatientClient

THRESHOLD = 10
_ANALYTICS = "/api/v1/streaming-analytics"


class Valve:
    """One breaker `name` over the streak of events `name`; a client that is as patient as ours are told to be."""

    def __init__(self, stack: LocalStack, name: str, *, timeout_ms: int = 1_500) -> None:
        self.name = name
        self._timeout_ms = timeout_ms
        self._client = PatientClient(stack.gateway, stack.keys["admin"])
        self.sent = Counter[str]()
        """Events by type."""

    async def close(self) -> None:
        await self._client.close()

    async def define(self, channels: dict[str, dict[str, Any]]) -> None:
        """`channels` by key; the breaker notifies them all."""
        await self.put(
            "metrics",
            f"{self.name}_streak",
            {
                "type": "streak",
                "event": self.name,
                "failure": {"path": "properties.status", "op": "eq", "value": "failed"},
            },
        )
        await self.put("metrics", f"{self.name}_count", {"type": "count", "event": self.name})
        await self.put("flags", self.name, {"type": "boolean"})
        for key, spec in channels.items():
            await self.put("channels", key, spec)
        await self.put(
            "breakers",
            self.name,
            {
                "metric": f"{self.name}_streak",
                "failure_threshold": THRESHOLD,
                "timeout_ms": self._timeout_ms,
                "recovery_attempts": 3,
                "flag": self.name,
                "notify": list(channels),
            },
        )

    async def put(self, kind: str, key: str, spec: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = await self.ask("PUT", f"/api/v1/admin/{kind}/{key}", spec)
        return answer

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        return await self._client.ask(method, path, body)

    async def happen(self, *statuses: str) -> None:
        """Sends one event for each status, in order, all acknowledged."""
        await self.tell(self.name, *({"status": status} for status in statuses))

    async def tell(self, event_type: str, *data: dict[str, Any]) -> None:
        """Sends one event for each, in order, all acknowledged. Resends bear the same ids."""
        now = system_clock()
        events: list[dict[str, Any]] = []
        for one in data:
            self.sent[event_type] += 1
            number = self.sent[event_type]
            events.append(
                {
                    "event_id": f"{event_type}-{number}",
                    "event_type": event_type,
                    "event_data": one,
                    "user_id": f"user-{number}",
                    "event_timestamp": to_iso(now + len(events)),
                }
            )
        answer = await self.ask("POST", f"{_ANALYTICS}/events/batch", {"events": events})
        assert answer["accepted"] == len(events), answer

    async def flag(self, unit: str = "somebody") -> dict[str, Any]:
        answer: dict[str, Any] = await self.ask(
            "POST", f"/ofrep/v1/evaluate/flags/{self.name}", {"context": {"targetingKey": unit}}
        )
        return answer

    async def is_on(self) -> bool:
        """For everybody: a half-open breaker may let single units pass."""
        return bool((await self.flag())["reason"] == "STATIC")

    async def is_off(self) -> bool:
        return not await self.is_on()

    async def breaker(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.ask("GET", f"/api/v1/admin/breakers/{self.name}")
        return found

    async def is_in(self, *states: str) -> bool:
        state: str = (await self.breaker())["state"]
        return state in states

    async def count(self) -> int:
        """How many of our events count, by the metric that takes them all."""
        found = await self.ask("GET", f"{_ANALYTICS}/metrics/{self.name}_count")
        counted: int = found["totals"]["counted"]
        return counted

    async def alerts(self) -> Sequence[dict[str, Any]]:
        found: Sequence[dict[str, Any]] = await self.ask("GET", f"{_ANALYTICS}/alerts?limit=100")
        return found

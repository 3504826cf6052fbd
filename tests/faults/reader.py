"""What anybody can read over REST, in the shapes in which it is compared with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.clock import MINUTE, from_datetime, to_iso
from tests.patient import PatientClient

ANALYTICS = "/api/v1/streaming-analytics"
_MINUTES_AT_ONCE = 400

Group = tuple[str | None, ...]
Windows = dict[tuple[int | None, Group], dict[str, float | int | None]]
"""(Start of the window in µs, or None for the total; group) → aggregation → value."""

_WIDTH = {"1m": MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "1h": 60 * MINUTE, "1d": 1_440 * MINUTE}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """All partitions together."""

    next_offset: int
    end_offset: int
    dead_letters: int
    events: int
    counted: int
    late: int
    duplicates: int


class Reader:
    def __init__(self, client: PatientClient) -> None:
        self._client = client

    async def totals(self, metric: str) -> dict[str, dict[str, int]]:
        """Component → counted, late, duplicates, invalid."""
        answer = await self._client.ask("GET", f"{ANALYTICS}/metrics/{metric}")
        components: dict[str, dict[str, int]] = answer["components"]
        return components

    async def windows(
        self, metric: str, width: str, *, begin: int = 0, end: int = 0, aggregations: Sequence[str] = ()
    ) -> Windows:
        """Windows that start in [begin, end), in µs; of the width `total` there is one."""
        if width == "total":
            return _windows(await self._metrics(metric, width, {}), aggregations)
        step, found = _WIDTH[width], Windows()
        begin -= begin % step
        for first in range(begin, end, _MINUTES_AT_ONCE * step):
            until = min(end, first + _MINUTES_AT_ONCE * step)
            params = {"from": to_iso(first), "to": to_iso(until), "limit": 1_000}
            found.update(_windows(await self._metrics(metric, width, params), aggregations))
        return found

    async def experiment(self, key: str) -> dict[str, Any]:
        """Variant → sample size, conflicted units and metrics."""
        answer = await self._client.ask("GET", f"/api/v1/ab-testing/experiments/{key}/results")
        variants: dict[str, Any] = answer["variants"]
        return variants

    async def pipeline(self) -> Pipeline:
        answer = await self._client.ask("GET", f"{ANALYTICS}/dashboard")
        sums = {
            name: sum(p[name] for p in answer["pipeline"]) for name in ("next_offset", "end_offset", "dead_letters")
        }
        events = {name: answer["events"][name] for name in ("events", "counted", "late", "duplicates")}
        return Pipeline(**sums, **events)

    async def _metrics(self, metric: str, width: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = await self._client.ask(
            "GET", f"{ANALYTICS}/metrics", params={"metric_name": metric, "time_window": width, **params}
        )
        return answer


def _windows(items: list[dict[str, Any]], aggregations: Sequence[str]) -> Windows:
    found = Windows()
    for item in items:
        if aggregations and item["aggregation_type"] not in aggregations:
            continue
        start = item["window_start"]
        place = (None if start is None else _micros(start), tuple(item["group"].values()))
        found.setdefault(place, {})[item["aggregation_type"]] = item["metric_value"]
    return found


def _micros(text: str) -> int:
    from datetime import datetime

    return from_datetime(datetime.fromisoformat(text))

"""What happened after what: streaks of failures, and journeys of jobs whose events lie in several partitions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shared.clock import HOUR, SECOND
from tests.faults.aspects import compared
from tests.faults.drawn import Drawn, Fate
from tests.faults.reader import Group, Reader, Windows

LENGTH = 100
TIMEOUT = 120 * SECOND

_OUTCOMES = ("completed", "abandoned_after_navigation", "abandoned_timeout", "in_progress")


@dataclass(slots=True)
class Streaks:
    """By shop: how many failures stand after the latest success."""

    prefix: str
    type: str
    _successes: defaultdict[str | None, int] = field(default_factory=lambda: defaultdict(int))
    _failures: defaultdict[str | None, list[int]] = field(default_factory=lambda: defaultdict(list))
    _n: Counter[str | None] = field(default_factory=Counter)

    @property
    def metric(self) -> str:
        return f"{self.prefix}_streak"

    def metrics(self) -> dict[str, dict[str, Any]]:
        return {
            self.metric: {
                "type": "streak",
                "event": self.type,
                "failure": {"path": "properties.status", "op": "eq", "value": "failed"},
                "length": LENGTH,
                "group_by": ["properties.shop"],
            }
        }

    def experiments(self) -> dict[str, dict[str, Any]]:
        return {}

    def add(self, event: Drawn) -> None:
        if event.type != self.type or event.fate is Fate.LATE:
            return
        shop = event.properties.get("shop")
        self._n[shop] += 1
        if event.properties["status"] == "failed":
            self._failures[shop].append(event.time)
        else:
            self._successes[shop] = max(self._successes[shop], event.time)

    async def differences(self, reader: Reader) -> list[str]:
        expected: Windows = {}
        for shop, n in self._n.items():
            standing = sum(time > self._successes[shop] for time in self._failures[shop])
            expected[None, (shop,)] = {"streak": min(standing, LENGTH), "count": n}
        return compared(self.metric, expected, await reader.windows(self.metric, "total"))


@dataclass(slots=True)
class _Job:
    """The earliest time (µs) of each kind of event, and the shop of the earliest start."""

    times: dict[str, int] = field(default_factory=dict)
    shop: str | None = None


@dataclass(slots=True)
class Journeys:
    """Imports by job: `started` → `mapped`, `left` → `completed` or `cancelled`, or the deadline."""

    prefix: str
    _jobs: defaultdict[str, _Job] = field(default_factory=lambda: defaultdict(_Job))

    @property
    def metric(self) -> str:
        return f"{self.prefix}_journey"

    def metrics(self) -> dict[str, dict[str, Any]]:
        return {
            self.metric: {
                "type": "journey",
                "unit": "job",
                "start": {"event": f"{self.prefix}_started"},
                "navigate": {"event": f"{self.prefix}_left"},
                "complete": {"event": f"{self.prefix}_completed"},
                "dead": {"event": f"{self.prefix}_cancelled"},
                "steps": [{"name": "mapped", "event": f"{self.prefix}_mapped"}],
                "timeout": f"{TIMEOUT // SECOND}s",
                "group_by": ["properties.shop"],
            }
        }

    def experiments(self) -> dict[str, dict[str, Any]]:
        return {}

    def add(self, event: Drawn) -> None:
        if event.job is None or event.fate is Fate.LATE:
            return
        job = self._jobs[event.job]
        if event.time < job.times.get(event.kind, 2**62):
            job.times[event.kind] = event.time
            if event.kind == "started":
                job.shop = event.properties.get("shop")

    async def differences(self, reader: Reader) -> list[str]:
        starts = [job.times["started"] for job in self._jobs.values() if "started" in job.times]
        if not starts:
            return []
        wrong: list[str] = []
        for width, place in _PLACES.items():
            windows = await reader.windows(self.metric, width, begin=min(starts), end=max(starts) + 1)
            counts = {where: _counts(values) for where, values in windows.items()}
            wrong += compared(f"{self.metric} {width}", self._expected(place), counts)
        return wrong + self._durations(await reader.windows(self.metric, "total"))

    def _expected(self, place: Callable[[int], int | None]) -> dict[tuple[int | None, Group], dict[str, int]]:
        found: dict[tuple[int | None, Group], dict[str, int]] = {}
        for job in self._jobs.values():
            if "started" not in job.times:
                continue
            where = (place(job.times["started"]), (job.shop,))
            counts = found.setdefault(where, dict.fromkeys(("started", "reached:mapped", *_OUTCOMES), 0))
            counts["started"] += 1
            counts["reached:mapped"] += "mapped" in job.times
            counts[_outcome(job)] += 1
        return found

    def _durations(self, windows: Windows) -> list[str]:
        wrong = []
        took: defaultdict[Group, list[int]] = defaultdict(list)
        for job in self._jobs.values():
            if "started" in job.times and "completed" in job.times:
                took[job.shop,].append(max(0, job.times["completed"] - job.times["started"]))
        for group, all_ in took.items():
            mean, found = sum(all_) / len(all_) / 1_000, windows[None, group]["avg_duration"]
            if found is None or abs(found - mean) > 1e-9 * mean:
                wrong.append(f"{self.metric} {group}: the mean duration is {mean} ms, found {found}")
        return wrong


def _outcome(job: _Job) -> str:
    """Once every clock has passed every deadline."""
    if "completed" in job.times:
        return "completed"
    return "abandoned_after_navigation" if "left" in job.times else "abandoned_timeout"


def _counts(values: dict[str, float | int | None]) -> dict[str, int]:
    return {name: int(values[name] or 0) for name in ("started", "reached:mapped", *_OUTCOMES)}


_PLACES: dict[str, Callable[[int], int | None]] = {
    "1h": lambda start: start - start % HOUR,
    "total": lambda start: None,
}

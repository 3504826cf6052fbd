"""Metrics of single events: how many, how much, and one share of another, by minute and by hour."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from shared.clock import HOUR, MINUTE
from tests.faults.aspects import compared
from tests.faults.drawn import Drawn, Fate
from tests.faults.reader import Group, Reader, Windows

_PERCENTILE_TOLERANCE = 0.01
"""What the sketch promises."""


@dataclass(slots=True)
class Verdicts:
    """How many events of a metric came to which end."""

    counted: int = 0
    late: int = 0
    invalid: int = 0

    def differences(self, what: str, found: dict[str, int]) -> list[str]:
        """`found` also tells duplicates: how many resends arrived, nobody knows."""
        expected = {"counted": self.counted, "late": self.late, "invalid": self.invalid}
        return compared(what, expected, {name: found[name] for name in expected})


@dataclass(slots=True)
class _Span:
    """From the first to the last event that counts (µs)."""

    begin: int = 2**62
    end: int = 0

    def add(self, time: int) -> None:
        self.begin, self.end = min(self.begin, time), max(self.end, time + 1)


@dataclass(slots=True)
class Counts:
    """Every event of the run, by its type."""

    prefix: str
    types: tuple[str, ...]
    verdicts: Verdicts = field(default_factory=Verdicts)
    _minutes: Counter[tuple[int, str]] = field(default_factory=Counter)
    _span: _Span = field(default_factory=_Span)

    @property
    def metric(self) -> str:
        return f"{self.prefix}_all"

    def metrics(self) -> dict[str, dict[str, Any]]:
        return {self.metric: {"type": "count", "event": list(self.types), "group_by": ["event_type"]}}

    def experiments(self) -> dict[str, dict[str, Any]]:
        return {}

    def add(self, event: Drawn) -> None:
        if event.type not in self.types:
            return
        if event.fate is Fate.LATE:
            self.verdicts.late += 1
            return
        self.verdicts.counted += 1
        self._minutes[event.time - event.time % MINUTE, event.type] += 1
        self._span.add(event.time)

    async def differences(self, reader: Reader) -> list[str]:
        found = self.verdicts.differences(self.metric, (await reader.totals(self.metric))["value"])
        for width, length in (("1m", MINUTE), ("1h", HOUR)):
            expected: Counter[tuple[int | None, Group]] = Counter()
            for (minute, kind), n in self._minutes.items():
                expected[minute - minute % length, (kind,)] += n
            windows = await reader.windows(self.metric, width, begin=self._span.begin, end=self._span.end)
            found += compared(f"{self.metric} {width}", dict(expected), {k: v["count"] for k, v in windows.items()})
        return found


@dataclass(slots=True)
class Amounts:
    """n, sum, min, max and 95th percentile of what purchases cost, in whole cents, by shop."""

    prefix: str
    type: str
    verdicts: Verdicts = field(default_factory=Verdicts)
    _cents: defaultdict[tuple[int, str | None], list[int]] = field(default_factory=lambda: defaultdict(list))
    _span: _Span = field(default_factory=_Span)

    @property
    def metric(self) -> str:
        return f"{self.prefix}_amount"

    def metrics(self) -> dict[str, dict[str, Any]]:
        return {
            self.metric: {
                "type": "value",
                "event": self.type,
                "value": "properties.amount",
                "aggregations": ["count", "sum", "min", "max", "p95"],
                "group_by": ["properties.shop"],
            }
        }

    def experiments(self) -> dict[str, dict[str, Any]]:
        return {}

    def add(self, event: Drawn) -> None:
        amount = event.properties.get("amount")
        if event.type != self.type or (amount is None and event.fate is Fate.COUNTED):
            return
        if event.fate is Fate.LATE:
            self.verdicts.late += 1
        elif event.cents is not None:
            self.verdicts.counted += 1
            shop = event.properties.get("shop")
            self._cents[event.time - event.time % MINUTE, shop].append(event.cents)
            self._span.add(event.time)
        else:
            self.verdicts.invalid += 1

    async def differences(self, reader: Reader) -> list[str]:
        found = self.verdicts.differences(self.metric, (await reader.totals(self.metric))["value"])
        exact = ("count", "sum", "min", "max")
        for width, place in _WIDTHS.items():
            windows = await reader.windows(
                self.metric, width, begin=self._span.begin, end=self._span.end, aggregations=exact
            )
            found += compared(f"{self.metric} {width}", self._expected(place), windows)
        return found + await self._percentiles(reader)

    def _expected(self, place: Callable[[int], int | None]) -> Windows:
        cents: defaultdict[tuple[int | None, Group], list[int]] = defaultdict(list)
        for (minute, shop), some in self._cents.items():
            cents[place(minute), (shop,)].extend(some)
        return {
            where: {
                "count": len(all_),
                "sum": _money(sum(all_)),
                "min": _money(min(all_)),
                "max": _money(max(all_)),
            }
            for where, all_ in cents.items()
        }

    async def _percentiles(self, reader: Reader) -> list[str]:
        by_shop: defaultdict[Group, list[int]] = defaultdict(list)
        for (_, shop), some in self._cents.items():
            by_shop[shop,].extend(some)
        windows = await reader.windows(self.metric, "total", aggregations=("p95",))
        wrong = []
        for group, cents in by_shop.items():
            exact = sorted(cents)[-(-95 * len(cents) // 100) - 1] / 100
            estimate = windows.get((None, group), {}).get("p95")
            if estimate is None or abs(estimate - exact) > _PERCENTILE_TOLERANCE * exact:
                wrong.append(f"{self.metric} {group}: the 95th percentile is {exact}, found {estimate}")
        return wrong


@dataclass(slots=True)
class Shares:
    """How many of the ended imports failed."""

    prefix: str
    type: str
    _ended: int = 0
    _failed: int = 0
    _late: int = 0

    @property
    def metric(self) -> str:
        return f"{self.prefix}_failed_share"

    def metrics(self) -> dict[str, dict[str, Any]]:
        failed = {"event": self.type, "filter": {"path": "properties.status", "op": "eq", "value": "failed"}}
        return {self.metric: {"type": "ratio", "numerator": failed, "denominator": {"event": self.type}}}

    def experiments(self) -> dict[str, dict[str, Any]]:
        return {}

    def add(self, event: Drawn) -> None:
        if event.type != self.type:
            return
        if event.fate is Fate.LATE:
            self._late += 1
            return
        self._ended += 1
        self._failed += event.properties["status"] == "failed"

    async def differences(self, reader: Reader) -> list[str]:
        components = await reader.totals(self.metric)
        found = {name: components[name]["counted"] for name in ("numerator", "denominator")}
        wrong = compared(self.metric, {"numerator": self._failed, "denominator": self._ended}, found)
        if components["denominator"]["late"] != self._late:
            wrong.append(f"{self.metric}: {self._late} are late, found {components['denominator']['late']}")
        share = float(Decimal(self._failed) / Decimal(self._ended)) if self._ended else None
        expected: Windows = {(None, ()): {"avg": share}}
        return wrong + compared(self.metric, expected, await reader.windows(self.metric, "total"))


_WIDTHS: dict[str, Callable[[int], int | None]] = {
    "1m": lambda minute: minute,
    "1h": lambda minute: minute - minute % HOUR,
    "total": lambda minute: None,
}


def _money(cents: int) -> float:
    return float(Decimal(cents).scaleb(-2))

"""Which windows a reading shows, and how much of the tables it looks at for them."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from services.aggregator.domain.kinds.kind import Cell
from services.aggregator.domain.metrics import Definition
from services.aggregator.queries import Queries, Window
from services.aggregator.readings import read_items, span_of
from shared.clock import DAY, MINUTE, to_datetime
from tests.unit.aggregator.builders import NOW, definition

COUNT = definition("count")
CATEGORIES = definition("categories", type="breakdown", of="properties.list", aggregations=["trend"])


class Table:
    """Windows of one metric that start at these times, as `Queries` reads them."""

    def __init__(self, component: Any, part: str, starts: list[datetime]) -> None:
        self.read = 0
        self._windows = [Window(s, (), {(component, part): Cell(n=i + 1)}) for i, s in enumerate(sorted(starts))][
            ::-1
        ]

    async def windows(self, _: Definition, __: str, begin: datetime, end: datetime) -> list[Window]:
        found = [w for w in self._windows if w.start is not None and begin <= w.start < end]
        self.read += len(found)
        return found


async def shown(table: Table, metric: Definition, start: int, end: int | None, limit: int) -> list[dict[str, Any]]:
    until = None if end is None else to_datetime(end)
    span = span_of(NOW, "1m", to_datetime(start), until, limit)
    return await read_items(cast(Queries, table), metric, span, None)


@pytest.mark.parametrize("seed", range(20))
async def test_the_newest_windows_are_shown_however_far_apart_they_are(seed: int) -> None:
    rng = random.Random(seed)
    reach = rng.choice([100, 10_000, 1_000_000])
    starts = sorted({to_datetime(NOW - rng.randrange(reach) * MINUTE) for _ in range(rng.randrange(1, 40))})
    begin, limit = NOW - rng.randrange(reach) * MINUTE, rng.choice([1, 5, 60])
    end = rng.choice([None, NOW, NOW - rng.randrange(reach) * MINUTE])
    for metric, table in (
        (COUNT, Table("value", "", starts)),
        (CATEGORIES, Table("category", "a", starts)),
    ):
        items = await shown(table, metric, begin, end, limit)
        inside = [s for s in starts if to_datetime(begin) <= s and (end is None or s < to_datetime(end))]
        assert [item["window_start"] for item in items] == inside[::-1][:limit]
        if metric is CATEGORIES:
            minute = timedelta(minutes=1)
            with_change = {item["window_start"] for item in items if item["metric_value"] is not None}
            assert with_change == {i["window_start"] for i in items if i["window_start"] - minute in starts}


async def test_an_early_beginning_costs_no_more_than_the_limit_and_two_days() -> None:
    """Which is how far clocks may be ahead."""
    starts = [to_datetime(NOW - i * MINUTE) for i in range(30 * DAY // MINUTE)]
    table = Table("value", "", starts)
    assert len(await shown(table, COUNT, NOW - 40 * DAY, NOW, 10)) == 10
    assert table.read <= 10 + 2 * DAY // MINUTE

"""What others may write straight into the log: nothing stops a partition, each record counts where it belongs."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import orjson

from shared.clock import DAY, system_clock
from tests.faults.run import wait_until_folded
from tests.faults.settings import FaultSettings
from tests.faults.site import Site
from tests.integration.aggregation import publish_raw

GOOD = 400
_TYPE = "hostile_purchase"
_KEYS = [f"u{n}" for n in range(32)]

ODD_AMOUNTS = (
    b'"12"',
    b"true",
    b'{"cents":1}',
    b"[1]",
    b"1180591620717411303424",  # 2^70
    b"1e400",
    b"-1e400",
    b"1e300",
    b"9" * 5_000,
    b'"nul \\u0000"',
    b'"lone \\ud800"',
    b'"' + b"x" * 1_000_000 + b'"',
)
"""JSON that is no number which a metric could add: the event counts, but not for metrics that read it."""

ODD_SHOPS = (b'"nul \\u0000"', b'"lone \\udfff"', b'"' + b"x" * 1_000_000 + b'"')
"""Texts that are no group: they are invalid for metrics that group by them."""


def no_events(now: int) -> list[bytes | None]:
    """Records that hold no event, each for another reason."""
    whole = _event("x", now)
    return [
        None,
        b"",
        b"null",
        b"[]",
        b"{}",
        b"1",
        b"no JSON",
        b"\xff\xfe",
        whole[:-1],
        whole + b" " + whole,
        whole.replace(b'"properties":', b'"properties":{"amount":NaN},"more":'),
        whole.replace(b'"u"', b'"\xff"'),
        _event("x", b"1e400"),
        _event("x", b"NaN"),
        _event("x", b"true"),
        _event("x", b"1180591620717411303424"),
        _event("x", b"-1"),
        _event("x", now + 2 * DAY),
        _event("x", now, amount=b"[" * 65 + b"]" * 65),
        whole.replace(b'"default"', b"7"),
        b"[" * 100_000 + b"]" * 100_000,
        b"nearly as much as a record may be " * 60_000,
    ]


async def test_no_record_stops_its_partition_and_each_is_counted_where_it_belongs(
    site: Site, fault_settings: FaultSettings
) -> None:
    await _define(site, "hostile_all", {"type": "count", "event": _TYPE})
    amount = {"type": "value", "event": _TYPE, "value": "properties.amount", "aggregations": ["count", "sum"]}
    await _define(site, "hostile_amount", amount)
    await _define(site, "hostile_by_shop", {"type": "count", "event": _TYPE, "group_by": ["properties.shop"]})
    before = await wait_until_folded(site)
    now = system_clock()
    bad = no_events(now)
    records: list[bytes | None] = [
        *(_event(f"good-{n}", now, amount=b"2.5") for n in range(GOOD)),
        *(_event(f"amount-{n}", now, amount=odd) for n, odd in enumerate(ODD_AMOUNTS)),
        *(_event(f"shop-{n}", now, amount=b"2.5", shop=odd) for n, odd in enumerate(ODD_SHOPS)),
        *bad,
    ]
    await publish_raw(site.stack.kafka, _spread(records, fault_settings.seed))
    after = await wait_until_folded(site)
    assert after.dead_letters - before.dead_letters == len(bad)
    events = GOOD + len(ODD_AMOUNTS) + len(ODD_SHOPS)
    assert after.events - before.events == events
    assert await _verdicts(site, "hostile_all") == (events, 0)
    assert await _verdicts(site, "hostile_amount") == (GOOD + len(ODD_SHOPS), len(ODD_AMOUNTS))
    assert await _verdicts(site, "hostile_by_shop") == (GOOD + len(ODD_AMOUNTS), len(ODD_SHOPS))
    sums = await site.reader.windows("hostile_amount", "total", aggregations=("sum",))
    assert sums == {(None, ()): {"sum": 2.5 * (GOOD + len(ODD_SHOPS))}}


async def _define(site: Site, key: str, spec: dict[str, Any]) -> None:
    await site.client.ask("PUT", f"/api/v1/admin/metrics/{key}", spec)


async def _verdicts(site: Site, metric: str) -> tuple[int, int]:
    """Counted and invalid."""
    totals = (await site.reader.totals(metric))["value"]
    return totals["counted"], totals["invalid"]


def _spread(values: Iterable[bytes | None], seed: int) -> list[tuple[str, bytes | None]]:
    """In a random order, with keys that lie in every partition."""
    rng = random.Random(seed)
    records = [(rng.choice(_KEYS), value) for value in values]
    rng.shuffle(records)
    return records


def _event(name: str, time: int | bytes, amount: bytes = b"1", shop: bytes = b'"a"') -> bytes:
    """An event's JSON with parts that no encoder would write."""
    start = orjson.dumps(
        {"organisation": "default", "event_id": f"hostile-{name}", "event_type": _TYPE, "user_id": "u"}
    )
    instant = time if isinstance(time, bytes) else str(time).encode()
    return start[:-1] + b',"time":%s,"properties":{"amount":%s,"shop":%s}}' % (instant, amount, shop)

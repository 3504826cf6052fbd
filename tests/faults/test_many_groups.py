"""A property that is never the same twice: the worker's memory and the tables stay small, and nothing is lost."""

from __future__ import annotations

from shared.clock import system_clock, to_iso
from tests.faults.progress import Progress
from tests.faults.settings import FaultSettings
from tests.faults.site import Site
from tests.faults.victims import resident_bytes
from tests.integration.aggregation import EVENT_PARTITIONS
from tests.traffic import Ledger, send_batches
from tests.waiting import eventually

CAP = 200
MOST_GROWTH = 150 * 1024 * 1024
_METRIC = "many_groups"
_BATCH = 1_000
_PART = 50
"""Batches sent at once."""


async def test_groups_beyond_the_cap_count_as_other_and_memory_stays_flat(
    site: Site, fault_settings: FaultSettings, progress: Progress
) -> None:
    spec = {"type": "count", "event": _METRIC, "group_by": ["properties.name"], "max_groups": CAP}
    await site.client.ask("PUT", f"/api/v1/admin/metrics/{_METRIC}", spec)
    (worker,) = site.workers
    names, peak = fault_settings.severity.groups, 0
    before = resident_bytes(worker.pid() or 0)
    ledger, now = Ledger(), to_iso(system_clock())  # one instant: the cap is per day
    for first in range(0, names, _BATCH * _PART):
        batches = [_batch(start, now) for start in range(first, min(names, first + _BATCH * _PART), _BATCH)]
        await send_batches(site.stack.gateway, site.stack.keys["ingest"], batches, ledger, clients=4, resend=0.0)
        peak = max(peak, resident_bytes(worker.pid() or 0))

    async def counted() -> bool:
        site.expect_life()
        return (await site.reader.totals(_METRIC))["value"]["counted"] == names

    await eventually(counted, "every event is counted", seconds=120)
    peak = max(peak, resident_bytes(worker.pid() or 0))
    windows = await site.reader.windows(_METRIC, "total")
    counts = {group[0]: values["count"] for (_, group), values in windows.items()}
    assert sum(count or 0 for count in counts.values()) == names
    assert len(counts) <= CAP * EVENT_PARTITIONS + 1
    overflow = (await site.reader.totals(_METRIC))["value"]["overflow"]
    assert counts["other"] == overflow == names - (len(counts) - 1)
    progress.say(f"{names:,} names: {len(counts):,} groups, {(peak - before) / 1e6:.0f} MB more memory")
    assert peak - before < MOST_GROWTH


def _batch(first: int, now: str) -> list[dict[str, object]]:
    return [
        {
            "event_id": f"{_METRIC}-{n}",
            "event_type": _METRIC,
            "event_timestamp": now,
            "event_data": {"name": f"name-{n}"},
            "user_id": f"u{n % 997}",
        }
        for n in range(first, first + _BATCH)
    ]

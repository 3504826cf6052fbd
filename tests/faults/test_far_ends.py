"""Sources whose far ends are killed again and again: each record that they have is counted, and once.

far ends:  killed ─ back ─── Kafka killed ─ back ─── killed ─ back ─── …          all the while both grow
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.local.supervisor import Supervisor
from tests.faults.faults import Death
from tests.faults.foreign_kafka import TOPIC, foreign_kafka
from tests.faults.growing_far_end import growing_far_end
from tests.faults.progress import Progress
from tests.faults.settings import FaultSettings
from tests.faults.site import AT_ONCE, Site, free_port
from tests.faults.victims import OfSupervisor, Victim
from tests.integration.sources.far_end import TOKEN
from tests.integration.sources.world import SOURCES, stored
from tests.waiting import eventually

PER_SECOND = 8.0
_POLL = {"interval_seconds": 1, "items": "data", "item_id": "id"}
_WAYS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "list": ("http", "http://127.0.0.1:{port}/list", _POLL),
    "cursor": (
        "http",
        "http://127.0.0.1:{port}/cursor",
        {**_POLL, "cursor": "meta.last", "cursor_parameter": "after"},
    ),
    "pages": ("http", "http://127.0.0.1:{port}/pages", {**_POLL, "next_link": "links.next"}),
    "sse": ("sse", "http://127.0.0.1:{port}/sse", {}),
    "websocket": ("websocket", "ws://127.0.0.1:{port}/ws", {"resume": "id", "resume_parameter": "after"}),
}
KAFKA = "kafka"


async def test_whatever_the_far_ends_have_counts_once_however_often_they_are_killed(
    site: Site, fault_settings: FaultSettings, progress: Progress, tmp_path: Path
) -> None:
    seconds, every = fault_settings.far_ends, fault_settings.severity.far_end_kills_every
    items = int(seconds * PER_SECOND)
    port, kept = free_port(), tmp_path / "items"
    program = growing_far_end(port, kept, items=items, per_second=PER_SECOND)
    others = Supervisor([program], tmp_path, policy=AT_ONCE)
    async with foreign_kafka(tmp_path) as kafka, stored(site.stack.kafka) as log:
        try:
            await others.start()
            ids = {}
            for way, (type, url, more) in _WAYS.items():
                config = {"url": url.format(port=port), "auth_token": TOKEN, **more}
                ids[way] = await _create(site, way, type, config)
            servers = {"bootstrap_servers": [kafka.servers], "topic": TOPIC, "auto_offset_reset": "earliest"}
            ids[KAFKA] = await _create(site, KAFKA, "kafka", servers)
            progress.say(f"far ends of {len(ids)} sources are killed every {every:g} s for {seconds:g} s")
            writing = asyncio.create_task(kafka.write(items, per_second=PER_SECOND))
            deaths = await _kill_in_turn([OfSupervisor(others), kafka.victim], seconds, every)
            await writing
            await eventually(lambda: _is_full(kept, items), "the far end has all of its items", seconds=60)
            wanted = {way: Counter(range(items)) for way in _WAYS} | {KAFKA: await kafka.holds()}
            assert set(wanted[KAFKA]) == set(range(items))
            for way, numbers in wanted.items():
                await log.holds(ids[way], numbers, seconds=120)
                assert await log.letters(f"source:far-{way}") == []
            await eventually(lambda: _all_counted(site, wanted), "the aggregator has counted them all")
            for source in ids.values():
                await site.client.ask("DELETE", f"{SOURCES}/{source}")
        finally:
            await others.stop()
    progress.say(f"{items:,} items of each and {wanted[KAFKA].total():,} records count once, {deaths} kills")


async def _create(site: Site, way: str, type: str, config: Mapping[str, Any]) -> int:
    """The source, and a metric that counts its events."""
    mapping = {"event_type": {"value": _event(way)}, "event_data": {"n": "id"}}
    body = {"key": f"far-{way}", "source_name": way, "source_type": type, "connection_config": config}
    await site.client.ask("PUT", f"/api/v1/admin/metrics/{_event(way)}", {"type": "count", "event": _event(way)})
    source: int = (await site.client.ask("POST", SOURCES, {**body, "mapping": mapping}))["id"]
    return source


def _event(way: str) -> str:
    return f"far_{way}"


async def _all_counted(site: Site, wanted: Mapping[str, Counter[int]]) -> bool:
    """By the aggregator. Fails if one is counted twice."""
    counted = {way: (await site.reader.totals(_event(way)))["value"]["counted"] for way in wanted}
    for way, numbers in wanted.items():
        assert counted[way] <= numbers.total(), f"{way}: {counted[way]} of {numbers.total()}"
    return all(counted[way] == numbers.total() for way, numbers in wanted.items())


async def _is_full(kept: Path, items: int) -> bool:
    return os.stat(kept).st_size == items


async def _kill_in_turn(victims: Sequence[Victim], seconds: float, every: float) -> int:
    """Each of them once in `every` seconds; returns how often in all, when all live again."""
    loop = asyncio.get_running_loop()
    began, kills = loop.time(), 0
    while (now := loop.time() - began) < seconds:
        due = (kills + 1) * every / len(victims)
        if now < due:
            await asyncio.sleep(due - now)
        death = Death(victims[kills % len(victims)])
        await death.start()
        await death.stop()
        kills += 1
    return kills

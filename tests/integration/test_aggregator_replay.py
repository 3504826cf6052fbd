"""`tidegate replay`: all tables of the aggregator go, and come back from Kafka as they were."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import asyncpg

from shared.clock import HOUR
from tests.integration.aggregation import publish_events, wait_until_folded
from tests.integration.history import ADMIN, SPECS, Traffic, admin_of, define, shown
from tests.programs import aggregator
from tests.waiting import eventually

_OF_UNITS = "('kept-journey', 'kept-funnel')"
"""Which shard moves a unit between windows depends on who comes first: only the sum over shards does not."""
_WINDOWS = (
    "SELECT s.metric, s.version, s.component, w.shard, {time}, w.group_key, w.n, w.sum, w.sum_squares, w.min, w.max, "
    "w.sketch FROM aggregator.{table} w JOIN aggregator.window_series s ON s.id = w.series_id "
    f"WHERE s.metric NOT IN {_OF_UNITS}"
)
_UNIT_WINDOWS = (
    "SELECT s.metric, s.version, s.component, {time}, w.group_key, sum(w.n), sum(w.sum), sum(w.sum_squares) "
    "FROM aggregator.{table} w JOIN aggregator.window_series s ON s.id = w.series_id "
    f"WHERE s.metric IN {_OF_UNITS} GROUP BY s.metric, s.version, s.component, {{time}}, w.group_key "
    "HAVING sum(w.n) <> 0"
)
_ROWS = {
    "windows": _WINDOWS.format(time="w.minute", table="window_minutes"),
    "rolls": _WINDOWS.format(time="w.width, w.start", table="window_rolls"),
    "windows of units": _UNIT_WINDOWS.format(time="w.minute", table="window_minutes"),
    "streaks": "SELECT s.metric, s.version, t.shard, t.group_key, t.latest_success, t.failures, t.n "
    "FROM aggregator.streaks t JOIN aggregator.window_series s ON s.id = t.series_id",
    "units": "SELECT s.metric, s.version, f.track, f.unit, f.facts, f.started, f.group_key, f.state, f.duration, "
    "f.parts, f.part_names "
    "FROM aggregator.unit_facts f JOIN aggregator.window_series s ON s.id = f.series_id",
    "counters": "SELECT s.metric, s.version, s.component, c.shard, c.counted, c.late, c.duplicates, c.invalid "
    "FROM aggregator.series_counters c JOIN aggregator.window_series s ON s.id = c.series_id "
    "WHERE c.counted + c.late + c.duplicates + c.invalid > 0",
    "definitions": "SELECT organisation, key, version, spec FROM aggregator.metrics",
}


async def test_a_replay_gives_back_definitions_and_every_row(kafka: str, postgres: str, tmp_path: Path) -> None:
    traffic = Traffic(seed=7, ago=2 * HOUR)  # no deadline is still to come
    async with admin_of(kafka, postgres, tmp_path / "api.log") as admin:
        await define(admin, "kept")
        changed = {**SPECS["count"], "group_by": []}
        assert (await admin.put(f"{ADMIN}/kept-count", json=changed)).json()["version"] == 2
        async with aggregator(kafka, postgres, tmp_path / "worker.log"):
            await publish_events(kafka, traffic.take(5_000))
            await wait_until_folded(postgres, traffic.published)
            await eventually(lambda: _no_deadline_is_left(postgres), "all deadlines have passed")
            refused, said = await _replay(kafka, postgres, "--yes")
            assert (refused, "stop its workers" in said) == (1, True), said
        before = await _rows(postgres)
    told, said = await _replay(kafka, postgres)
    assert (told, "Nothing was changed" in said) == (1, True), said
    assert await _rows(postgres) == before
    done, said = await _replay(kafka, postgres, "--yes")
    assert done == 0, said

    async with (
        admin_of(kafka, postgres, tmp_path / "api.log") as admin,
        aggregator(kafka, postgres, tmp_path / "worker.log"),
    ):
        await wait_until_folded(postgres, traffic.published)

        await eventually(lambda: _no_deadline_is_left(postgres), "all deadlines have passed again")
        after = await _rows(postgres)
        for name, rows in before.items():
            assert after[name] == rows, name
        for kind in SPECS:
            assert (await shown(admin, f"kept-{kind}"))["components"], kind
        # Versions go on where they were: consumers would ignore lower ones.
        again = await admin.put(f"{ADMIN}/kept-count", json=changed)
        assert (again.json()["version"], again.json()["status"]) == (2, "unchanged")
        newer = await admin.put(f"{ADMIN}/kept-count", json=SPECS["count"])
        assert (newer.json()["version"], newer.json()["status"]) == (3, "changed")
        await publish_events(kafka, traffic.take(500))
        await wait_until_folded(postgres, traffic.published)
        (totals,) = (await shown(admin, "kept-count"))["components"].values()
        assert totals["counted"] > 0


async def _rows(postgres: str) -> dict[str, list[tuple[Any, ...]]]:
    connection = await asyncpg.connect(postgres)
    try:
        return {
            name: sorted((tuple(row) for row in await connection.fetch(query)), key=repr)
            for name, query in _ROWS.items()
        }
    finally:
        await connection.close()


async def _no_deadline_is_left(postgres: str) -> bool:
    connection = await asyncpg.connect(postgres)
    try:
        return not await connection.fetchval("SELECT count(*) FROM aggregator.unit_facts WHERE deadline IS NOT NULL")
    finally:
        await connection.close()


async def _replay(kafka: str, postgres: str, *options: str) -> tuple[int, str]:
    """The command's exit code, and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tidegate", "replay", "--kafka", kafka, "--postgres", postgres, *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, " ".join(said.decode().split())

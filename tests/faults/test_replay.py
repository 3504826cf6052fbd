"""The whole log again, into an empty database, in other batches and without a fault: the same rows."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from deploy.local.migrations import migrate
from deploy.local.supervisor import Supervisor
from tests.faults.progress import Progress
from tests.faults.rows import differences, rolls_that_differ, rows_of
from tests.faults.run import wait_until_folded
from tests.faults.site import Site
from tests.waiting import eventually


async def test_a_replay_of_the_log_into_an_empty_database_gives_the_same_rows(
    site: Site, progress: Progress, tmp_path: Path
) -> None:
    """Includes whatever tests of this stack did before."""
    end = (await wait_until_folded(site)).end_offset
    assert end > 0
    await site.scale(0)
    empty = await _new_database(site.stack.postgres, tmp_path)
    replaying = Supervisor([site.worker(0, empty, "replay")], site.logs)
    try:
        await replaying.start()
        await eventually(lambda: _has_folded(empty, end), "the log is folded again", seconds=300)

        async def alike() -> bool:
            return not differences(*await asyncio.gather(rows_of(site.stack.postgres), rows_of(empty)))

        # The last deadlines pass by the brokers' clock, a moment after the last record.
        try:
            await eventually(alike, "the rows are alike", seconds=20, every=1)
        except AssertionError:
            found = differences(await rows_of(site.stack.postgres), await rows_of(empty))
            assert not found, "\n".join(found)
        assert await rolls_that_differ(site.stack.postgres) == []
        assert await rolls_that_differ(empty) == []
        progress.say(f"a replay of {end:,} records gives the same rows")
    finally:
        await replaying.stop()
        await site.scale(1)


async def _new_database(postgres: str, directory: Path) -> str:
    name = f"replay_{uuid.uuid4().hex[:8]}"
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    url = urlunsplit(urlsplit(postgres)._replace(path=f"/{name}"))
    await migrate(url, cwd=directory)
    return url


async def _has_folded(postgres: str, end: int) -> bool:
    connection = await asyncpg.connect(postgres)
    try:
        return bool(await connection.fetchval("SELECT sum(next_offset) >= $1 FROM aggregator.shards", end))
    finally:
        await connection.close()

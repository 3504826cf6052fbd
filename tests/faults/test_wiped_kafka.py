"""Kafka's data is gone and Postgres's is not: the worker refuses loudly, and nothing is counted or swallowed.

Ends the stack that it is given: it stands last.
"""

from __future__ import annotations

import shutil

import asyncpg
import pytest

from deploy.local.control import look
from deploy.local.restarts import RestartPolicy
from deploy.local.stack import LocalStack, StackError
from tests.faults.rows import rows_of
from tests.faults.site import WORKER, Site


async def test_a_stack_whose_kafka_was_wiped_does_not_start_and_says_why_and_what_to_do(site: Site) -> None:
    rows, cursors = await rows_of(site.stack.postgres), await _cursors(site.stack.postgres)
    assert sum(offset for _, offset in cursors) > 0
    state = site.stack.state
    await site.close()
    shutil.rmtree(state.path / "kafka")
    wiped = LocalStack(state.path, application=(WORKER,), policy=RestartPolicy(attempts=1))
    with pytest.raises(StackError, match="the log belongs to another Kafka cluster than the cursor") as refused:
        await wiped.start()
    assert "aggregator-worker: ended with exit code 1" in str(refused.value)
    assert "adopt-log" in str(refused.value)
    assert state.read().message == str(refused.value)
    assert all(process.pid is None for process in look(state))
    async with LocalStack(state.path, processes="infrastructure") as stack:
        assert await rows_of(stack.postgres) == rows
        assert await _cursors(stack.postgres) == cursors


async def _cursors(postgres: str) -> list[tuple[int, int]]:
    connection = await asyncpg.connect(postgres)
    try:
        rows = await connection.fetch("SELECT shard, next_offset FROM aggregator.shards ORDER BY shard")
        return [(row[0], row[1]) for row in rows]
    finally:
        await connection.close()

"""What a pool's connections do when the process that holds them does nothing any more."""

from __future__ import annotations

import pytest

from shared.postgres import RETRYABLE, create_pool

_LOCK = "SELECT pg_advisory_xact_lock(1)"


async def test_a_transaction_that_nobody_goes_on_with_gives_its_locks_back(postgres: str) -> None:
    pool = await create_pool(postgres, name="test", size=2)
    try:
        async with pool.acquire() as hung:
            assert await hung.fetchval("SHOW idle_in_transaction_session_timeout") == "10s"
            await hung.execute("SET idle_in_transaction_session_timeout = '300ms'")
            transaction = hung.transaction()
            await transaction.start()
            await hung.execute(_LOCK)
            async with pool.acquire() as waiting, waiting.transaction():
                await waiting.execute(_LOCK)
            with pytest.raises(RETRYABLE):
                await hung.execute("SELECT 1")
    finally:
        await pool.close()

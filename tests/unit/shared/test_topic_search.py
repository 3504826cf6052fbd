"""How many may search at a time."""

from __future__ import annotations

import asyncio

import pytest

from shared.topic_search import Turns


async def test_only_so_many_search_at_a_time_and_the_others_after_them() -> None:
    turns, under_way, most = Turns(at_once=2), 0, 0

    async def search() -> None:
        nonlocal under_way, most
        async with turns.one():
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1

    await asyncio.gather(*(search() for _ in range(9)))
    assert (most, under_way) == (2, 0)


async def test_who_waits_too_long_is_told_so_and_takes_nobodys_turn() -> None:
    turns = Turns(at_once=1, patience=0.05)
    async with turns.one():
        with pytest.raises(TimeoutError):
            async with turns.one():
                pass
    async with turns.one():
        pass


async def test_a_search_may_last_longer_than_others_wait_for_theirs() -> None:
    async with Turns(at_once=1, patience=0.01).one():
        await asyncio.sleep(0.05)

from __future__ import annotations

import asyncio

from shared.cancelling import cancel_until_ended


async def test_a_task_whose_library_swallows_a_cancellation_is_ended_nevertheless() -> None:
    swallowed = 0

    async def watch() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed += 1

    task = asyncio.create_task(watch())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await cancel_until_ended(task, patience=0.01)
    assert task.cancelled()
    assert swallowed == 1


async def test_who_has_ended_or_fails_at_the_end_raises_nothing() -> None:
    async def fail_at_the_end() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError

    done, failing = asyncio.create_task(asyncio.sleep(0)), asyncio.create_task(fail_at_the_end())
    await done
    await cancel_until_ended(done, failing)
    assert isinstance(failing.exception(), ValueError)
    await cancel_until_ended()

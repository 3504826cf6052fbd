"""Waiting for a condition instead of a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def eventually(
    condition: Callable[[], Awaitable[bool]], what: str, *, seconds: float = 30, every: float = 0.05
) -> None:
    """Returns once `condition` holds; fails with `what` after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(every)
    except TimeoutError:
        raise AssertionError(f"after {seconds:g} s it is still not so: {what}") from None

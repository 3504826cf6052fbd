"""Ending tasks for certain, also those in which a library takes a cancellation for its own."""

from __future__ import annotations

import asyncio
from typing import Any


async def cancel_until_ended(*tasks: asyncio.Task[Any], patience: float = 0.5) -> None:
    """Cancels them and returns when they have ended, however they did.

    Closing a Kafka client waits for a task that it has cancelled, and swallows whatever cancellation comes meanwhile:
    a loop around it would go on for ever. So who does not end within `patience` seconds is cancelled again; that must
    be enough for what the task still does in the end.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=patience)
    await asyncio.gather(*tasks, return_exceptions=True)

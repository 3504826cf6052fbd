"""Draws a run while it goes on: a live table on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console
from rich.live import Live

from examples.imports.progress import Progress
from examples.imports.report import live_view, status_line

_FRAME_SECONDS = 0.25
_LINE_SECONDS = 5.0


@asynccontextmanager
async def shown(progress: Progress, console: Console) -> AsyncIterator[None]:
    """Draws `progress` while the block lasts."""
    task = asyncio.create_task(_draw(progress, console) if console.is_terminal else _write_lines(progress, console))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _draw(progress: Progress, console: Console) -> None:
    # Drawn by this task alone: rich's own refresh thread would read figures while they change.
    with Live(live_view(progress), console=console, auto_refresh=False, transient=True) as live:
        while True:
            await asyncio.sleep(_FRAME_SECONDS)
            live.update(live_view(progress), refresh=True)


async def _write_lines(progress: Progress, console: Console) -> None:
    while True:
        await asyncio.sleep(_LINE_SECONDS)
        console.print(status_line(progress), highlight=False, markup=False, soft_wrap=True)

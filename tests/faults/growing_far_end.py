"""Somebody else's server as a process of its own, which may be killed at any moment: it forgets nothing it showed.

`python -m tests.faults.growing_far_end PORT FILE ITEMS PER_SECOND` serves what `FarEnd` serves. FILE has a byte for
each item that there is: written before the item is shown, and read again at the next start.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import BinaryIO

from deploy.local.process import Process
from tests.integration.sources.far_end import FarEnd

ROOT = Path(__file__).parents[2]


def growing_far_end(port: int, file: Path, *, items: int, per_second: float) -> Process:
    """Grows by so many items a second, until there are `items`."""
    arguments = (str(port), str(file), str(items), str(per_second))

    async def listens() -> bool:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True

    return Process(
        name="far-end",
        argv=(sys.executable, "-m", "tests.faults.growing_far_end", *arguments),
        check=listens,
        port=port,
        cwd=ROOT,
    )


async def serve(port: int, kept: BinaryIO, *, items: int, per_second: float) -> None:
    """For ever."""
    server = FarEnd(port)
    server.add(kept.tell())
    await server.start()
    while len(server.items) < items:
        await asyncio.sleep(1 / per_second)
        kept.write(b".")
        server.add(1)
    await asyncio.Event().wait()


def main(port: str, file: str, items: str, per_second: str) -> None:
    with open(file, "ab", buffering=0) as kept:
        asyncio.run(serve(int(port), kept, items=int(items), per_second=float(per_second)))


if __name__ == "__main__":
    main(*sys.argv[1:])

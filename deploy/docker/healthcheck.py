"""`python -m deploy.docker.healthcheck`: exit code 0 if the service in this container says that it can work."""

from __future__ import annotations

import asyncio
import os
import sys

from deploy.local.readiness import is_ready

_TIMEOUT = 2.0


async def healthy(port: int) -> bool:
    """Whether /readyz on `port` of this container answers 200 in time."""
    try:
        async with asyncio.timeout(_TIMEOUT):
            return await is_ready(port)
    except (OSError, TimeoutError):
        return False


if __name__ == "__main__":
    sys.exit(not asyncio.run(healthy(int(os.environ["TIDEGATE_PORT"]))))

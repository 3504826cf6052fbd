"""`python -m examples.websocket`: a server and its clients on loopback, telling a running Tidegate how they fare.

Wants TIDEGATE_URL (http://127.0.0.1:8080) and TIDEGATE_KEY, an ingest key.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from examples.websocket.server import ProgressServer
from tidegate.telemetry import Telemetry

JOBS = 30
_NETWORKS = ("wifi", "wifi", "cellular")
_SYSTEMS = ("26.1", "26.0", "25.4")


async def main(url: str, key: str) -> int:
    """Returns the process's exit code."""
    telemetry = Telemetry(url, key)
    await jobs_watched(telemetry)
    delivered = await telemetry.aclose()
    print(telemetry.stats())
    return 0 if delivered else 1


async def jobs_watched(telemetry: Telemetry) -> None:
    """Every job to its end, each watched by a client."""
    draw = random.Random(1)
    server = ProgressServer(telemetry, "csv_import", draw)
    async with serve(server.handle, "127.0.0.1", 0) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        await asyncio.gather(*(_client(port, f"job-{draw.randrange(10**9)}", draw) for _ in range(JOBS)))
        await server.finish()


async def _client(port: int, job_id: str, draw: random.Random) -> None:
    """Watches its job to the end; on a bad network the connection breaks now and then."""
    network = draw.choice(_NETWORKS)
    headers = {
        "X-App-Version": "3.1",
        "X-OS-Version": draw.choice(_SYSTEMS),
        "X-Network-Type": network,
        "X-Device-Model": "iPhone",
    }
    breaks = draw.randint(1, 2) if network == "cellular" else 0
    while True:
        try:
            async with connect(f"ws://127.0.0.1:{port}/{job_id}", additional_headers=headers) as socket:
                seconds = draw.uniform(0.05, 0.2) if breaks else 60.0
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        while True:
                            message = json.loads(await socket.recv())
                            if message["type"] == "ping":
                                await socket.send(json.dumps({"nonce": message["nonce"]}))
                breaks -= 1
                socket.transport.abort()
        except ConnectionClosed:
            return


if __name__ == "__main__":
    address, ingest_key = os.environ.get("TIDEGATE_URL", "http://127.0.0.1:8080"), os.environ.get("TIDEGATE_KEY")
    if not ingest_key:
        sys.exit("set TIDEGATE_KEY to an ingest key: `tidegate up` writes one to .tidegate/keys.json")
    sys.exit(asyncio.run(main(address, ingest_key)))

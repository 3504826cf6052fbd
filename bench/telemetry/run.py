"""`tidegate bench telemetry`: what recording an event costs its caller, with a platform that takes the events.

start ─► for each rate: a process that records, timing each call ─► figures
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import msgspec

from bench.processes import BenchError
from bench.progress import Bars
from bench.telemetry.figures import BENCH, SYSTEM, Overhead, Round
from bench.telemetry.recorder import Recorded
from deploy.local.stack import LocalStack

__all__ = ["BENCH", "SYSTEM", "run_telemetry"]

_ROUNDS = ((100, 1_000), (1_000, 10_000), (0, 8_000))
"""Rate and events: a busy server, a very busy one, and a burst that the client's memory holds."""


async def run_telemetry(*, cache: Path, bars: Bars) -> Overhead:
    """Everything it starts is ended and everything it writes removed. `cache` is where Kafka's jars are kept.

    Raises BenchError when an event was not delivered.
    """
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as directory:
        stack = LocalStack(Path(directory) / "state", cache=cache)
        with bars.showing("Starting Kafka, PostgreSQL, the gateway and the services"):
            await stack.start()
        try:
            rounds = []
            for rate, events in _ROUNDS:
                with bars.showing(f"Recording {events:,} events" + (f" at {rate:,}/s" if rate else "")):
                    rounds.append(await _round(stack, rate, events))
            return Overhead(rounds)
        finally:
            await stack.stop()


async def _round(stack: LocalStack, rate: int, events: int) -> Round:
    command = (sys.executable, "-m", "bench.telemetry.recorder", stack.gateway, stack.keys["ingest"])
    process = await asyncio.create_subprocess_exec(
        *command, str(events), str(rate), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, said = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    if process.returncode:
        raise BenchError(f"the recording process failed: {said.decode(errors='replace').strip()[-500:]}")
    recorded = msgspec.json.decode(out, type=Recorded)
    if recorded.undelivered:
        raise BenchError(f"{recorded.undelivered:,} of {events:,} events were not delivered")
    return Round(rate, recorded.calls, recorded.cpu_seconds, recorded.accepted)

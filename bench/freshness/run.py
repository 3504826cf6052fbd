"""`tidegate bench freshness`: how soon an acknowledged event is visible, under a background load.

start ─► define ─► for each rate: load ─► probes on a schedule, REST asked every 10 ms ─► figures
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.freshness.figures import BENCH, SYSTEM, Freshness, Round
from bench.freshness.probes import Probes
from bench.killpath.run import background, missing_events, rate_between
from bench.processes import BenchError
from bench.progress import Bars, Completed
from deploy.local.stack import LocalStack
from shared.clock import Clock

__all__ = ["BENCH", "RATES", "SYSTEM", "run_freshness"]

RATES = (0, 20_000)
"""Background events per second, unless others are asked for."""
_PROBES_A_SECOND = 10
_WARM_UP_PROBES = 10


async def run_freshness(
    *, probes: int, rates: Sequence[int], seed: int, cache: Path, clock: Clock, bars: Bars
) -> Freshness:
    """Everything it starts is ended and everything it writes removed. `cache` is where Kafka's jars are kept.

    Raises BenchError when a probe does not count in time, or when a load was not accepted at its rate.
    """
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as directory:
        root = Path(directory)
        stack = LocalStack(root / "state", cache=cache)
        with bars.showing("Starting Kafka, PostgreSQL, the gateway and the services"):
            await stack.start()
        try:
            draw, rounds = random.Random(seed), []
            async with Probes(stack.gateway, stack.keys["admin"], clock) as client:
                await client.define()
                for rate in rates:
                    title = f"Sending probes at {rate:,} events/s in the background"
                    with bars.showing(title, probes) as completed:
                        rounds.append(await _round(stack, client, rate, probes, draw, root, completed))
            return Freshness(rounds)
        except ExceptionGroup as failed:
            raise _first(failed) from failed
        finally:
            await stack.stop()


def _first(failed: ExceptionGroup[Exception]) -> Exception:
    """What the command line knows how to tell: the first failure of what ran side by side."""
    first = failed.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


async def _round(
    stack: LocalStack,
    client: Probes,
    rate: int,
    probes: int,
    draw: random.Random,
    directory: Path,
    completed: Completed,
) -> Round:
    client.ages.clear()
    async with background(stack, rate, directory) as accepted, asyncio.TaskGroup() as group:
        watching = group.create_task(client.watch())
        await _send(client, _WARM_UP_PROBES, draw, lambda _: None)
        before = accepted()
        await _send(client, probes, draw, completed)
        after = accepted()
        await client.until_visible(_WARM_UP_PROBES + probes)
        watching.cancel()
    if missing_events(before, after, rate) > 0:
        raise BenchError(
            f"of {rate:,} events/s in the background only {rate_between(before, after):,.0f} were accepted: "
            "this machine cannot carry that load; choose others with --rate"
        )
    return Round(rate, rate_between(before, after), client.ages[_WARM_UP_PROBES:])


async def _send(client: Probes, probes: int, draw: random.Random, completed: Completed) -> None:
    """At moments of their own, so that they meet batches and commits at any of theirs; never waiting for answers."""
    async with asyncio.TaskGroup() as sending:
        for number in range(probes):
            sending.create_task(client.send())
            await asyncio.sleep(draw.uniform(0, 2 / _PROBES_A_SECOND))
            completed(number + 1)

"""`tidegate bench killpath`: a stack of its own, whose breaker is tripped again and again under background load.

start ─► define ─► for each rate: load ─► 100 × (10 failures ─► flag off ─► closed by hand ─► flag on) ─► figures
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from bench.killpath.load import BATCH, KEY_VARIABLE, Accepted, read_line
from bench.killpath.trips import BENCH, SYSTEM, KillPath, Round, Trip
from bench.killpath.valve import THRESHOLD, Opening, Valve
from bench.processes import BenchError, Measured, measured
from bench.progress import Bars, Completed
from deploy.local.stack import LocalStack
from shared.clock import Clock

__all__ = ["BENCH", "RATES", "SYSTEM", "run_killpath"]

RATES = (0, 1_000, 10_000)
"""Background events per second."""

_LONGEST_PAUSE = 0.5
_WARM_UP_TRIPS = 2
_WARM_UP_SECONDS = 2.0
_ENOUGH = 0.95
"""The share of the rate asked for that must have been accepted, else the figures would be another load's."""


async def run_killpath(
    *, trips: int, rates: Sequence[int], seed: int, cache: Path, clock: Clock, bars: Bars
) -> KillPath:
    """Everything it starts is ended and everything it writes removed. `cache` is where Kafka's jars are kept.

    Raises BenchError when a trip does not happen in time, or when a load was not accepted at its rate.
    """
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as directory:
        root = Path(directory)
        async with AsyncExitStack() as resources:
            with bars.showing("Starting Kafka, PostgreSQL, the gateway and the services"):
                stack = await resources.enter_async_context(LocalStack(root / "state", cache=cache))
            valve = await resources.enter_async_context(Valve(stack.gateway, stack.keys["admin"], stack.kafka, clock))
            await valve.define()
            draw, rounds = random.Random(seed), []
            for rate in rates:
                with bars.showing(f"Tripping the breaker at {rate:,} events/s in the background", trips) as completed:
                    rounds.append(await _round(stack, valve, rate, trips, draw, root, completed))
            return KillPath(rounds)


async def _round(
    stack: LocalStack,
    valve: Valve,
    rate: int,
    trips: int,
    draw: random.Random,
    directory: Path,
    completed: Completed,
) -> Round:
    async with background(stack, rate, directory) as accepted:
        for _ in range(_WARM_UP_TRIPS):
            await _trip(valve, draw)
        before, done = accepted(), []
        for number in range(trips):
            done.append(await _trip(valve, draw))
            completed(number + 1)
        after = accepted()
    per_second = rate_between(before, after)
    if missing_events(before, after, rate) > 0:
        raise BenchError(
            f"of {rate:,} events/s in the background only {per_second:,.0f} were accepted "
            f"({after.refused_batches - before.refused_batches} batches were refused): "
            "this machine cannot carry that load; choose others with --rate"
        )
    return Round(rate, per_second, done)


async def _trip(valve: Valve, draw: random.Random) -> Trip:
    valve.forget_openings()
    for _ in range(THRESHOLD - 1):
        await valve.fail()
    # Updates of one series are at least 200 ms apart: the deciding one must meet that pause at any of its moments.
    await asyncio.sleep(draw.uniform(0, _LONGEST_PAUSE))
    changing = asyncio.create_task(valve.until_off())
    try:
        sent_at, answered_at = await valve.fail()
        changed_at = await changing
    finally:
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
    trip = as_trip(await valve.opening(), sent_at, answered_at, changed_at)
    await valve.close_breaker()
    return trip


def as_trip(opening: Opening, sent_at: int, answered_at: int, changed_at: int) -> Trip:
    """Raises BenchError when the switch's evidence does not say when its update was published."""
    evidence = opening.switch.evidence
    published_at, lag = evidence.get("update_published_at"), evidence.get("lag_ms")
    if not isinstance(published_at, int) or not isinstance(lag, int | float):
        raise BenchError(f"the switch's evidence lacks update_published_at or lag_ms: {evidence}")
    return Trip(sent_at, answered_at, published_at, opening.at, changed_at, lag)


@asynccontextmanager
async def background(stack: LocalStack, rate: int, directory: Path) -> AsyncIterator[Callable[[], Accepted]]:
    """A load of `rate` events/s for as long as the block lasts; gives what was accepted so far."""
    if rate == 0:
        yield lambda: Accepted(0, 0, 0.0)
        return
    latest = Accepted(0, 0, 0.0)

    async def follow(program: Measured) -> None:
        nonlocal latest
        async for line in program.lines():
            try:
                latest = read_line(line)
            except msgspec.MsgspecError as error:
                raise BenchError(f"the load said {line!r}") from error

    argv = ("-m", "bench.killpath.load", stack.gateway, str(rate))
    environment = {KEY_VARIABLE: stack.keys["ingest"]}
    async with measured(f"load-{rate}", argv, core=None, env=environment, directory=directory) as program:
        following = asyncio.create_task(follow(program))
        try:
            while latest.seconds < _WARM_UP_SECONDS:
                if following.done():
                    following.result()
                await asyncio.sleep(0.05)
            yield lambda: latest
            if following.done():
                following.result()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def rate_between(before: Accepted, after: Accepted) -> float:
    """Events per second; 0 where there was no load."""
    seconds = after.seconds - before.seconds
    return (after.events - before.events) / seconds if seconds else 0.0


def missing_events(before: Accepted, after: Accepted, rate: int) -> float:
    """How many more should have been accepted for the figures to be those of `rate`; one batch may be under way."""
    due = _ENOUGH * rate * (after.seconds - before.seconds)
    return max(0.0, due - (after.events - before.events) - BATCH)

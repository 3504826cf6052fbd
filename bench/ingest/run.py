"""`tidegate bench ingest`: one Kafka, and on it one system after the other under each workload.

for each system: start ─► as fast as it answers ─► at half that rate ─► at a rate that is the same for all
                       ─► in the topic is what was answered ─► figures
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from aiokafka.errors import KafkaError

from bench.ingest.crowd import Crowded, CrowdPlan, allow_files
from bench.ingest.figures import BENCH, CONNECTIONS, FLOOR, TIDEGATE, Cost, Gathering, Rates, Round
from bench.ingest.floor import FloorPlan
from bench.ingest.load import KEY_VARIABLE, Phase, Plan, Told
from bench.ingest.peers import Peer
from bench.ingest.requests import new_run
from bench.ingest.systems import Running, Site, ours, peer_running
from bench.ingest.topics import prepare, records_of
from bench.ingest.workloads import WORKLOADS, Workload
from bench.processes import BenchError, Measured, Usage, measured
from bench.progress import Bars
from deploy.local.migrations import migrate
from deploy.local.stack import LocalStack
from shared.topics import EVENTS

__all__ = ["BENCH", "CHOICES", "SYSTEMS", "TIDEGATE", "run_ingest"]

T = TypeVar("T")

PROCESSES = {TIDEGATE: 1, "tidegate-2": 2}
"""Of ours, how many processes share the port."""
SYSTEMS = (*PROCESSES, FLOOR)
CHOICES = (*WORKLOADS, CONNECTIONS)
"""What may be measured: the workloads, and memory with many connections."""
_FLOOR_WORKLOAD = "batch100"
_WARM_UP_SECONDS = 5.0
"""Long enough for what is compiled while it runs."""
_PEAK_SECONDS = 4.0
_SETTLE_SECONDS = 0.5
_RATE_SECONDS = 3.0
_WORDS = 300
"""Characters of the reason why something was left out."""
_CROWD = 10_000
_CROWD_AT_ONCE = 64
_CROWD_SECONDS = 60.0
_CROWD_SETTLES = 2.0
_CROWD_HOLD = 4.0


async def run_ingest(
    *,
    systems: Sequence[str],
    peers: Sequence[Peer],
    workloads: Sequence[str],
    seed: int,
    cache: Path,
    bars: Bars,
) -> Rates:
    """`systems` of `SYSTEMS`, `workloads` of `CHOICES`.

    Everything it starts is ended and everything it writes removed. A peer that fails is left out, with the reason.
    Raises BenchError when a program of ours fails, or when not exactly what was acknowledged is in the topic.
    """
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as directory:
        root = Path(directory)
        async with AsyncExitStack() as resources:
            with bars.showing("Starting Kafka"):
                stack = LocalStack(root / "state", processes="infrastructure", cache=cache)
                await resources.enter_async_context(stack)
                await migrate(stack.postgres, cwd=root)
            site = Site(
                stack.kafka,
                stack.postgres,
                await prepare(stack.kafka, [_topic_of(peer) for peer in peers if peer.command]),
                root,
                seed,
            )
            contest = Contest(site, bars)
            for name in (name for name in CHOICES if name in workloads):
                for system in systems:
                    await contest.measure_ours(system, name)
                for peer in peers:
                    await contest.measure_peer(peer, name)
            return contest.rates()


def _topic_of(peer: Peer) -> str:
    return f"bench.{peer.name}"


class Contest:
    """One measurement after the other, and what they gave."""

    def __init__(self, site: Site, bars: Bars) -> None:
        self._site = site
        self._bars = bars
        self._rounds: list[Round] = []
        self._gatherings: list[Gathering] = []
        self._left_out: dict[str, str] = {}

    def rates(self) -> Rates:
        return Rates(self._rounds, self._gatherings, self._left_out)

    async def measure_ours(self, system: str, what: str) -> None:
        """Raises BenchError."""
        if system == FLOOR:
            if what == _FLOOR_WORKLOAD:
                with self._bars.showing(f"Measuring {system}"):
                    self._rounds.append(await self._floor())
            return
        with self._bars.showing(f"Measuring {system}: {what}"):
            async with ours(self._site, PROCESSES[system]) as running:
                await self._measure(running, system, what)

    async def measure_peer(self, peer: Peer, what: str) -> None:
        with self._bars.showing(f"Measuring {peer.name}: {what}"):
            try:
                async with peer_running(self._site, peer, _topic_of(peer)) as running:
                    await self._measure(running, peer.name, what)
            except (BenchError, KafkaError, OSError) as error:
                self._leave_out(peer.name, what, str(error))

    def _leave_out(self, system: str, what: str, why: str) -> None:
        self._left_out[f"{system} on {what}"] = " ".join(why.split())[:_WORDS]

    async def _measure(self, running: Running, system: str, what: str) -> None:
        before = await records_of(self._site.kafka, running.topic)
        if what == CONNECTIONS:
            if running.program is None or not allow_files(_CROWD):
                why = "it runs already" if running.program is None else "this machine does not allow so many"
                self._leave_out(system, what, why)
                return
            try:
                gathering, accepted = await self._crowd(running, system, running.program)
            except BenchError as error:
                self._leave_out(system, what, str(error))
                return
            await self._compare(system, what, running.topic, before, accepted)
            self._gatherings.append(gathering)
            return
        found, accepted = await self._load(running, system, WORKLOADS[what])
        await self._compare(system, what, running.topic, before, accepted)
        self._rounds.append(found)

    async def _floor(self) -> Round:
        before = await records_of(self._site.kafka, EVENTS.name)
        plan = FloorPlan(self._site.kafka, _PEAK_SECONDS, _WARM_UP_SECONDS, self._site.seed)
        async with self._program("floor", plan) as program:
            told = await _said(program, Told)
        await self._compare(FLOOR, _FLOOR_WORKLOAD, EVENTS.name, before, told.accepted)
        return Round(_FLOOR_WORKLOAD, FLOOR, told)

    async def _load(self, running: Running, system: str, workload: Workload) -> tuple[Round, int]:
        """The round and how many events it brought. Raises BenchError."""

        def usage() -> Usage | None:
            return running.program.usage_of_all() if running.program else None

        plan = Plan(
            url=running.url(workload),
            form=running.form.name,
            workload=workload.name,
            phases=(
                Phase(_WARM_UP_SECONDS),
                Phase(_PEAK_SECONDS),
                Phase(_SETTLE_SECONDS, share=0.5),
                Phase(_RATE_SECONDS, share=0.5),
                Phase(_SETTLE_SECONDS, rate=workload.fixed_rate),
                Phase(_RATE_SECONDS, rate=workload.fixed_rate),
            ),
            run=new_run(),
            seed=self._site.seed,
        )
        async with self._program("load", plan) as load:
            unmeasured = [await _said(load, Told), await _said(load, Told)]
            before = usage()
            peak = await _said(load, Told)
            after = usage()
            unmeasured.append(await _said(load, Told))
            half = await _said(load, Told)
            unmeasured.append(await _said(load, Told))
            fixed = await _said(load, Told)
        if not (peak.answers and half.answers and fixed.answers):
            raise BenchError(f"{system} took too long for {workload.name}: a phase went by without an answer")
        most = usage()
        cost = None
        if before and after and most:
            cost = Cost(after.cpu_seconds - before.cpu_seconds, most.peak_memory)
        accepted = sum(told.accepted for told in (*unmeasured, peak, half, fixed))
        return Round(workload.name, system, peak, half, fixed, cost), accepted

    async def _crowd(self, running: Running, system: str, program: Measured) -> tuple[Gathering, int]:
        """The gathering and how many events it brought. Raises BenchError when not all came and stayed."""
        plan = CrowdPlan(
            url=running.url(WORKLOADS["single"]),
            form=running.form.name,
            connections=_CROWD,
            at_once=_CROWD_AT_ONCE,
            seconds=_CROWD_SECONDS,
            hold=_CROWD_HOLD,
            run=new_run(),
            seed=self._site.seed,
        )
        before = program.usage_of_all().memory
        async with self._program("crowd", plan) as crowd:
            await _said(crowd, Crowded)
            await asyncio.sleep(_CROWD_SETTLES)
            after = program.usage_of_all().memory
            crowded = await _said(crowd, Crowded)
        if crowded.open < _CROWD or crowded.refused:
            answers = f", and answered {crowded.refused}" if crowded.refused else ""
            raise BenchError(f"{system} kept {crowded.open:,} of {_CROWD:,} connections{answers}")
        return Gathering(system, _CROWD, before, after), crowded.accepted

    @asynccontextmanager
    async def _program(self, name: str, plan: Plan | CrowdPlan | FloorPlan) -> AsyncIterator[Measured]:
        argv = ("-m", f"bench.ingest.{name}", msgspec.json.encode(plan).decode())
        environment = {KEY_VARIABLE: self._site.key}
        async with measured(name, argv, core=None, env=environment, directory=self._site.directory) as program:
            yield program

    async def _compare(self, system: str, what: str, topic: str, before: int, accepted: int) -> None:
        """Raises BenchError unless the topic has what was acknowledged, and nothing else."""
        stored = await records_of(self._site.kafka, topic) - before
        if topic and stored != accepted:
            raise BenchError(f"{system} acknowledged {accepted:,} events of {what}, the topic has {stored:,}")


async def _said(program: Measured, kind: type[T]) -> T:
    """The next line. Raises BenchError."""
    async for line in program.lines():
        try:
            return msgspec.json.decode(line, type=kind)
        except msgspec.MsgspecError as error:
            raise BenchError(f"a program of the benchmark said {line!r}") from error
    raise AssertionError  # `lines` raises at the end

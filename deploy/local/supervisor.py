"""Keeps processes running: starts them by readiness, restarts what dies, ends them in reverse order.

start():   kafka ──────► topics ─────┐
           postgres ──► migrations ──┴──► ingest, assignment, … (all at once)
stop():    the same graph, from right to left
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local import children
from deploy.local.children import Identity
from deploy.local.process import Check, Job, Process, ProcessState, ProcessStatus
from deploy.local.restarts import Failures, RestartPolicy, Verdict, after_death
from shared.cancelling import cancel_until_ended

_CHECK_INTERVAL_STARTING = 0.1
_CHECK_INTERVAL_READY = 2.0
_CHECK_TIMEOUT = 5.0

logger = logging.getLogger(__name__)

Observer = Callable[["Supervisor"], None]
"""Called after every change of a process's state, from the event loop; must not block for long."""


class StartError(Exception):
    """A process or job could not be brought up; the message holds what its log says."""


@dataclass(slots=True)
class _Entry:
    process: Process
    state: ProcessState = ProcessState.WAITING
    identity: Identity | None = None
    restarts: int = 0
    log_start: int = 0  # where its log begins, in bytes, of the present incarnation
    ready_since: float | None = None  # by the event loop's clock, of the present incarnation
    detail: str = ""
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # first time ready, or given up
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Supervisor:
    """Runs one graph of processes and jobs. `logs` is the directory of `NAME.log` files."""

    def __init__(
        self,
        units: Sequence[Process | Job],
        logs: Path,
        *,
        observer: Observer = lambda _: None,
        policy: RestartPolicy | None = None,
        start_timeout: float = 180.0,
    ) -> None:
        self._jobs = {unit.name: unit for unit in units if isinstance(unit, Job)}
        self._entries = {unit.name: _Entry(unit) for unit in units if isinstance(unit, Process)}
        self._order = [unit.name for unit in units]
        for unit in units:
            for name in unit.depends_on:
                if name not in self._order[: self._order.index(unit.name)]:
                    raise ValueError(f"{unit.name} depends on {name}, which must stand before it")
        self._logs = logs
        self._observer = observer
        self._policy = policy or RestartPolicy()
        self._start_timeout = start_timeout

    def statuses(self) -> list[ProcessStatus]:
        return [
            ProcessStatus(
                name=name,
                pid=entry.identity.pid if entry.identity else None,
                port=entry.process.port,
                state=entry.state,
                restarts=entry.restarts,
                detail=entry.detail,
            )
            for name, entry in self._entries.items()
        ]

    def identities(self) -> dict[str, Identity]:
        """The living children, for whoever has to clear up after a supervisor that was killed."""
        return {name: entry.identity for name, entry in self._entries.items() if entry.identity}

    async def start(self) -> None:
        """Returns when everything is ready. Raises `StartError`; then the caller still has to `stop`."""
        done = {name: asyncio.Event() for name in self._order}

        async def bring_up(name: str) -> None:
            unit = self._jobs.get(name) or self._entries[name].process
            for dependency in unit.depends_on:
                await done[dependency].wait()
            await (self._run_job(unit) if isinstance(unit, Job) else self._start_process(self._entries[name]))
            done[name].set()

        starts = [asyncio.create_task(bring_up(name)) for name in self._order]
        try:
            async with asyncio.timeout(self._start_timeout):
                await asyncio.gather(*starts)
        except TimeoutError as error:
            late = [name for name in self._order if not done[name].is_set()]
            first = late[0]
            raise StartError(
                f"not ready after {self._start_timeout:.0f} s: {', '.join(late)}.{self._tail(first)}"
            ) from error
        finally:
            for task in starts:
                task.cancel()
            await asyncio.gather(*starts, return_exceptions=True)

    async def stop(self) -> None:
        """Ends everything, dependants first. Bounded: what does not end in its time is killed. Never raises."""
        for level in reversed(self._levels()):
            await asyncio.gather(*(self._stop_process(self._entries[name]) for name in level))

    async def _run_job(self, job: Job) -> None:
        try:
            await job.run()
        except Exception as error:
            raise StartError(f"{job.name}: {error}") from error

    async def _start_process(self, entry: _Entry) -> None:
        entry.task = asyncio.create_task(self._keep_running(entry), name=entry.process.name)
        await entry.settled.wait()
        if entry.state is ProcessState.FAILED:
            raise StartError(f"{entry.process.name}: {entry.detail}.{self._tail(entry.process.name)}")

    async def _keep_running(self, entry: _Entry) -> None:
        """One process's whole life: started, watched, restarted when it dies, until `stop`."""
        name, failures = entry.process.name, Failures()
        while not entry.stopping.is_set():
            self._change(entry, ProcessState.STARTING)
            ready_for, how = await self._run_once(entry)
            if entry.stopping.is_set():
                break
            decision = after_death(self._policy, failures, ready_for)
            failures = decision.failures
            if decision.verdict is Verdict.GIVE_UP:
                self._change(entry, ProcessState.FAILED, f"{how}; {decision.verdict}")
                entry.settled.set()
                return
            entry.restarts += 1
            detail = f"{how}; restart {entry.restarts} in {decision.delay:.1f} s"
            logger.warning("%s %s", name, detail)
            self._change(entry, ProcessState.RESTARTING, detail)
            with suppress(TimeoutError):
                await asyncio.wait_for(entry.stopping.wait(), decision.delay)
        self._change(entry, ProcessState.STOPPED)

    async def _run_once(self, entry: _Entry) -> tuple[float | None, str]:
        """From spawn to death. Returns the seconds since it became ready (None: never was) and how it ended."""
        process, loop = entry.process, asyncio.get_running_loop()
        log = self.log_of(process.name)
        children.rotate(log)
        entry.log_start = children.log_size(log)
        try:
            child = await children.spawn(process, log)
        except OSError as error:
            return None, f"could not be started: {error}"
        identity = entry.identity = children.identify(child.pid) or Identity(child.pid, "")
        entry.ready_since = None
        self._change(entry, ProcessState.STARTING)
        watcher = asyncio.create_task(self._watch_readiness(entry))
        stopper = asyncio.create_task(entry.stopping.wait())
        death = asyncio.create_task(child.wait())
        try:
            await asyncio.wait({stopper, death}, return_when=asyncio.FIRST_COMPLETED)
            await cancel_until_ended(watcher)
            if not death.done():
                self._change(entry, ProcessState.STOPPING)
                children.ask_to_end(identity, process.stop_signal)
                await asyncio.wait({death}, timeout=process.stop_timeout)
                children.kill_group(identity)
            code = await death
        finally:
            await cancel_until_ended(watcher, stopper, death)
            children.kill_group(identity)  # what it may have left behind
            entry.identity = None
        ready_for = None if entry.ready_since is None else loop.time() - entry.ready_since
        return ready_for, _describe_exit(code)

    async def _watch_readiness(self, entry: _Entry) -> None:
        """Follows starting → ready ⇄ unready until cancelled."""
        loop = asyncio.get_running_loop()
        born = loop.time()
        while True:
            is_ready = await _ask(entry.process.check)
            if is_ready and entry.state is not ProcessState.READY:
                if entry.ready_since is None:
                    entry.ready_since = loop.time()
                    logger.info("%s is ready after %.1f s", entry.process.name, loop.time() - born)
                self._change(entry, ProcessState.READY)
                entry.settled.set()
            elif not is_ready and entry.state is ProcessState.READY:
                self._change(entry, ProcessState.UNREADY, "does not answer its readiness check")
                logger.warning("%s does not answer its readiness check", entry.process.name)
            ready = entry.state is ProcessState.READY
            await asyncio.sleep(_CHECK_INTERVAL_READY if ready else _CHECK_INTERVAL_STARTING)

    async def _stop_process(self, entry: _Entry) -> None:
        entry.stopping.set()
        if entry.task is None:
            self._change(entry, ProcessState.STOPPED)
            return
        await asyncio.gather(entry.task, return_exceptions=True)

    def _change(self, entry: _Entry, state: ProcessState, detail: str = "") -> None:
        entry.state, entry.detail = state, detail
        self._observer(self)

    def _levels(self) -> list[list[str]]:
        """Process names by distance from the roots of the graph."""
        depth: dict[str, int] = {}
        for name in self._order:
            unit = self._jobs.get(name) or self._entries[name].process
            depth[name] = 1 + max((depth[d] for d in unit.depends_on), default=0)
        return [
            [name for name in self._entries if depth[name] == level]
            for level in range(1, max(depth.values(), default=0) + 1)
        ]

    def _tail(self, name: str) -> str:
        entry = self._entries.get(name)
        tail = children.log_tail(self.log_of(name), entry.log_start) if entry else ""
        return f" The end of {self.log_of(name)}:\n{tail}" if tail else ""

    def log_of(self, name: str) -> Path:
        return self._logs / f"{name}.log"


async def _ask(check: Check) -> bool:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT):
            return await check()
    except (OSError, TimeoutError):
        return False


def _describe_exit(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"

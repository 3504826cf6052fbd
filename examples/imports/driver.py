"""One run of the import experiment: set it up, let the users loose, wait until all is counted, compare."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from examples.imports import schema
from examples.imports.definitions import Addresses, load
from examples.imports.domain.behaviour import ARRIVALS_END, VARIANTS, UserPlan, VariantName, draw_plan
from examples.imports.domain.comparison import Comparison
from examples.imports.domain.inbox import Received
from examples.imports.domain.ledger import Ledger
from examples.imports.domain.schedule import schedule_of
from examples.imports.files import SourceFile, write_files
from examples.imports.gate import FlagWatcher, Gate, until_on
from examples.imports.importer import Importer
from examples.imports.observer import Observer
from examples.imports.outbox import Deliveries
from examples.imports.platform import Platform, PlatformError, variant_of
from examples.imports.progress import Phase, Progress
from examples.imports.queue import JobQueue
from examples.imports.receivers import Receivers, open_receivers
from examples.imports.second_act import SecondAct
from examples.imports.sender import EventSender
from examples.imports.service import BreakableQueue, ImportService
from examples.imports.transport import Api, GaveUpError, open_session
from examples.imports.user import User, World
from shared.clock import Clock, system_clock, to_datetime
from shared.postgres import Pool, create_pool, wait_until_ready

NOMINAL_SECONDS = 45.0
"""The length of a run in which the plans' nominal seconds are real ones."""

_WORKERS = 4
_CONNECTIONS = 64
_GRACE_SECONDS = 60.0
"""How long after the end of the run clients go on trying to deliver."""
_OUTAGE = (0.40, 0.43)
"""Shares of the run between which the import queue is down."""
_LATECOMER_SECONDS = 0.1
_ASSIGN_PATH = "/api/v1/ab-testing/assign"


@dataclass(frozen=True, slots=True)
class Target:
    """Where the stack is. `keys` holds one API key for each of the scopes admin, ingest and read."""

    gateway: str
    postgres: str
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """`seconds` is how long users come and go, unless the breaker needs more of them; setting up comes before, and
    the platform may take `settle_seconds` without any progress to count what came in."""

    seconds: float = NOMINAL_SECONDS
    users: int = 900
    seed: int = 1
    settle_seconds: float = 60.0
    closes_within: float = 35.0


@dataclass(frozen=True, slots=True)
class RunResult:
    experiment_key: str
    experiment_id: int
    flag: str
    comparison: Comparison
    complaints: Mapping[str, int]
    """What should not have happened, and how often."""
    last_messages: Mapping[str, Sequence[Received]]
    """The newest messages on each channel."""


class RunError(Exception):
    """The run could not begin or not be judged; the text says why."""


_EXPECTED = (PlatformError, GaveUpError, TimeoutError)


async def run(target: Target, settings: RunSettings, progress: Progress, *, clock: Clock = system_clock) -> RunResult:
    """The whole run; `progress` tells meanwhile how far it is. Raises RunError."""
    try:
        return await _run(target, settings, progress, clock)
    except _EXPECTED as error:
        raise RunError(str(error)) from error
    except ExceptionGroup as group:  # what users and observers raise comes in groups
        expected, others = group.split(_EXPECTED)
        if expected is None or others is not None:
            raise
        raise RunError(str(_first(expected))) from group


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


async def _run(target: Target, settings: RunSettings, progress: Progress, clock: Clock) -> RunResult:
    loop = asyncio.get_running_loop()
    started = to_datetime(clock())
    async with (
        _prepared(target, settings) as (files, pool, session),
        open_receivers() as receivers,
        AsyncExitStack() as left,
    ):
        definitions = load(f"{started:%Y%m%d%H%M%S}", _addresses(receivers))
        flag = str(definitions.breaker.spec["flag"])
        progress.experiment_key, progress.users = definitions.experiment_key, settings.users
        apis = _Apis(session, target, settings.seed)
        platform = Platform(apis.admin, apis.reader)
        await left.enter_async_context(platform.leaving_nothing())
        experiment_id = await platform.set_up(definitions, deadline=loop.time() + _GRACE_SECONDS)
        await until_on(apis.flag, flag, loop.time() + _GRACE_SECONDS)

        ledger, later, start = Ledger(VARIANTS), Deliveries(), loop.time()
        schedule = schedule_of(settings.seconds)
        deadline = start + schedule.limit + _GRACE_SECONDS
        watcher = FlagWatcher(apis.flag, flag)
        act = SecondAct(schedule, watcher, progress.complain, start=start, closes_within=settings.closes_within)
        queue = JobQueue(pool, definitions.experiment_key, workers=_WORKERS)
        down_from, down_to = (start + share * settings.seconds for share in _OUTAGE)
        entrance = BreakableQueue(queue, lambda: down_from <= loop.time() < down_to)
        service = ImportService(Importer(pool, read_only=act.is_failing), queue, entrance, workers=_WORKERS)
        world = World(
            experiment_key=definitions.experiment_key,
            service=service,
            sender=EventSender(
                apis.events, ledger, deadline=deadline, complain=progress.complain, acknowledged=act.acknowledged
            ),
            flag=flag,
            is_enabled=Gate(apis.assign, flag, deadline),
            assign=_Assigner(apis.assign, experiment_id, deadline),
            ledger=ledger,
            later=later,
            clock=clock,
            pace=settings.seconds / NOMINAL_SECONDS,
            users_prefix=f"user_{started:%m%d%H%M%S}",
            deadline=deadline,
            complain=progress.complain,
        )
        observer = Observer(
            platform, definitions, experiment_id, ledger, watcher=watcher, act=act, receivers=receivers
        )
        async with (
            service.running(),
            watcher.watching(),
            observer.watching(progress, service),
        ):
            progress.phase = Phase.RUNNING
            async with asyncio.TaskGroup() as group:
                group.create_task(act.run())
                group.create_task(_let_loose(settings, files, world, act.over, progress))
            progress.phase = Phase.DRAINING
            await later.settled()
            progress.phase = Phase.SETTLING
            comparison = await observer.settle(settings.settle_seconds + definitions.journey_seconds)
        progress.phase = Phase.DONE
        complaints, last = dict(progress.complaints), observer.last_messages()
        return RunResult(definitions.experiment_key, experiment_id, flag, comparison, complaints, last)


@asynccontextmanager
async def _prepared(
    target: Target, settings: RunSettings
) -> AsyncIterator[tuple[list[SourceFile], Pool, aiohttp.ClientSession]]:
    """Files on disk, a pool for the product's tables in Postgres, an HTTP session."""
    with tempfile.TemporaryDirectory(prefix="tidegate-imports-") as directory:
        files = await asyncio.to_thread(write_files, Path(directory), settings.seed)
        pool = await create_pool(target.postgres, name="imports-example", size=2 * _WORKERS + 2)
        try:
            await wait_until_ready(pool)
            await schema.prepare(pool)
            async with open_session(connections=_CONNECTIONS + 8) as session:
                yield files, pool, session
        finally:
            await pool.close()


def _addresses(receivers: Receivers) -> Addresses:
    return Addresses(
        slack_url=receivers.slack_url,
        pagerduty_url=receivers.pagerduty_url,
        routing_key=receivers.routing_key,
        smtp_host=receivers.host,
        smtp_port=receivers.smtp_port,
    )


class _Apis:
    """The gateway as its different users see it; observers never wait behind the crowd."""

    def __init__(self, session: aiohttp.ClientSession, target: Target, seed: int) -> None:
        crowd, few, dice = asyncio.Semaphore(_CONNECTIONS), asyncio.Semaphore(8), random.Random(seed)

        def api(scope: str, concurrency: asyncio.Semaphore) -> Api:
            return Api(session, target.gateway, target.keys[scope], concurrency=concurrency, dice=dice)

        self.events, self.assign = api("ingest", crowd), api("read", crowd)
        self.admin, self.reader = api("admin", few), api("read", few)
        self.flag = api("read", asyncio.Semaphore(1))


async def _let_loose(
    settings: RunSettings, files: list[SourceFile], world: World, over: asyncio.Event, progress: Progress
) -> None:
    """Every user arrives when its plan says, and does what it says.

    An open breaker closes only when somebody tries: until the second act is over, latecomers follow.
    """
    loop = asyncio.get_running_loop()
    choices = [file.choice() for file in files]

    def plan_of(index: int) -> UserPlan:
        return draw_plan(settings.seed, index, nominal_seconds=NOMINAL_SECONDS, files=choices)

    async def live(plan: UserPlan, arrives: float) -> None:
        await asyncio.sleep(arrives)
        progress.active += 1
        try:
            await User(plan, files[plan.file], world).run()
        except GaveUpError as error:
            progress.complain(str(error))
        finally:
            progress.active -= 1
            progress.done += 1

    async with asyncio.TaskGroup() as group:
        for plan in map(plan_of, range(settings.users)):
            group.create_task(live(plan, plan.arrives * world.pace))
        await asyncio.sleep(ARRIVALS_END * settings.seconds)
        while not over.is_set() and loop.time() < world.deadline:
            group.create_task(live(plan_of(progress.users), 0.0))
            progress.users += 1
            await asyncio.sleep(_LATECOMER_SECONDS)


class _Assigner:
    """Asks for a user's variant until the gateway answers."""

    def __init__(self, api: Api, experiment_id: int, deadline: float) -> None:
        self._api = api
        self._experiment_id = experiment_id
        self._deadline = deadline

    async def __call__(self, user: str, context: Mapping[str, Any], headers: Mapping[str, str]) -> VariantName:
        """Raises GaveUpError after the deadline, PlatformError for an answer without a variant of ours."""
        body = msgspec.json.encode({"experiment_id": self._experiment_id, "user_id": user, "context": context})
        answer = await self._api.persistently("POST", _ASSIGN_PATH, body, deadline=self._deadline, headers=headers)
        given = variant_of(answer)
        for name in VARIANTS:
            if given == name:
                return name
        raise PlatformError(f"assign gave {given!r}, which is none of {', '.join(VARIANTS)}")

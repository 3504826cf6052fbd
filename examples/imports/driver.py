"""One run of the import experiment: set it up, let the users loose, wait until all is counted, compare."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from examples.imports import schema
from examples.imports.definitions import load
from examples.imports.domain.behaviour import VARIANTS, UserPlan, VariantName, draw_plan
from examples.imports.domain.comparison import Comparison
from examples.imports.domain.ledger import Ledger
from examples.imports.files import SourceFile, write_files
from examples.imports.importer import Importer
from examples.imports.observer import Observer
from examples.imports.outbox import Deliveries
from examples.imports.platform import Platform, PlatformError, variant_of
from examples.imports.progress import Phase, Progress
from examples.imports.queue import JobQueue
from examples.imports.sender import EventSender
from examples.imports.service import BreakableQueue, ImportService
from examples.imports.transport import Api, GaveUpError, open_session
from examples.imports.user import User, World
from shared.clock import Clock, system_clock, to_datetime
from shared.postgres import create_pool, wait_until_ready

NOMINAL_SECONDS = 45.0
"""The length of a run in which the plans' nominal seconds are real ones."""

_WORKERS = 4
_CONNECTIONS = 64
_GRACE_SECONDS = 60.0
"""How long after the end of the run clients go on trying to deliver."""
_OUTAGE = (0.40, 0.43)
"""Shares of the run between which the import queue is down."""
_ASSIGN_PATH = "/api/v1/ab-testing/assign"


@dataclass(frozen=True, slots=True)
class Target:
    """Where the stack is. `keys` holds one API key for each of the scopes admin, ingest and read."""

    gateway: str
    postgres: str
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """`seconds` is how long users come and go; setting up comes before, and the platform may take
    `settle_seconds` without any progress to count what came in."""

    seconds: float = NOMINAL_SECONDS
    users: int = 900
    seed: int = 1
    settle_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class RunResult:
    experiment_key: str
    experiment_id: int
    comparison: Comparison
    complaints: Mapping[str, int]
    """What should not have happened, and how often."""


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
    definitions = load(f"import_processing_mode_{started:%Y%m%d%H%M%S}")
    progress.experiment_key, progress.users = definitions.experiment_key, settings.users
    async with _prepared(target, settings) as (files, importer, queue_pool, session):
        apis = _Apis(session, target, settings.seed)
        platform = Platform(apis.admin, apis.reader)
        experiment_id = await platform.set_up(definitions, deadline=loop.time() + _GRACE_SECONDS)

        ledger, later, start = Ledger(VARIANTS), Deliveries(), loop.time()
        deadline = start + settings.seconds + _GRACE_SECONDS
        queue = JobQueue(queue_pool, definitions.experiment_key, workers=_WORKERS)
        down_from, down_to = (start + share * settings.seconds for share in _OUTAGE)
        entrance = BreakableQueue(queue, lambda: down_from <= loop.time() < down_to)
        service = ImportService(importer, queue, entrance, workers=_WORKERS)
        world = World(
            experiment_key=definitions.experiment_key,
            service=service,
            sender=EventSender(apis.events, ledger, deadline=deadline, complain=progress.complain),
            assign=_Assigner(apis.assign, experiment_id, deadline),
            ledger=ledger,
            later=later,
            clock=clock,
            pace=settings.seconds / NOMINAL_SECONDS,
            users_prefix=f"user_{started:%m%d%H%M%S}",
            deadline=deadline,
            complain=progress.complain,
        )
        observer = Observer(platform, definitions, experiment_id, ledger)
        async with service.running(), observer.watching(progress, service):
            progress.phase = Phase.RUNNING
            await _let_loose(_plans(settings, files), files, world, progress)
            progress.phase = Phase.DRAINING
            await later.settled()
            progress.phase = Phase.SETTLING
            comparison = await observer.settle(settings.settle_seconds)
        progress.phase = Phase.DONE
        return RunResult(definitions.experiment_key, experiment_id, comparison, dict(progress.complaints))


@asynccontextmanager
async def _prepared(
    target: Target, settings: RunSettings
) -> AsyncIterator[tuple[list[SourceFile], Importer, Any, aiohttp.ClientSession]]:
    """Files on disk, the product's tables in Postgres, an HTTP session."""
    with tempfile.TemporaryDirectory(prefix="tidegate-imports-") as directory:
        files = await asyncio.to_thread(write_files, Path(directory), settings.seed)
        pool = await create_pool(target.postgres, name="imports-example", size=2 * _WORKERS + 2)
        try:
            await wait_until_ready(pool)
            await schema.prepare(pool)
            async with open_session(connections=_CONNECTIONS + 8) as session:
                yield files, Importer(pool), pool, session
        finally:
            await pool.close()


class _Apis:
    """The gateway as its different users see it; observers never wait behind the crowd."""

    def __init__(self, session: aiohttp.ClientSession, target: Target, seed: int) -> None:
        crowd, few, dice = asyncio.Semaphore(_CONNECTIONS), asyncio.Semaphore(8), random.Random(seed)

        def api(scope: str, concurrency: asyncio.Semaphore) -> Api:
            return Api(session, target.gateway, target.keys[scope], concurrency=concurrency, dice=dice)

        self.events, self.assign = api("ingest", crowd), api("read", crowd)
        self.admin, self.reader = api("admin", few), api("read", few)


def _plans(settings: RunSettings, files: list[SourceFile]) -> Iterator[UserPlan]:
    choices = [file.choice() for file in files]
    for index in range(settings.users):
        yield draw_plan(settings.seed, index, nominal_seconds=NOMINAL_SECONDS, files=choices)


async def _let_loose(plans: Iterator[UserPlan], files: list[SourceFile], world: World, progress: Progress) -> None:
    """Every user arrives when its plan says, and does what it says."""

    async def live(plan: UserPlan) -> None:
        await asyncio.sleep(plan.arrives * world.pace)
        progress.active += 1
        try:
            await User(plan, files[plan.file], world).run()
        except GaveUpError as error:
            progress.complain(str(error))
        finally:
            progress.active -= 1
            progress.done += 1

    async with asyncio.TaskGroup() as group:
        for plan in plans:
            group.create_task(live(plan))


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

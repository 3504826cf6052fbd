"""The assignment service: `python -m services.assignment`, configured by the environment (`shared.settings`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import uvloop
from prometheus_client import CollectorRegistry

from services.assignment.admin_api import apply_routes, key_routes
from services.assignment.api import Experiments, experiment_routes
from services.assignment.assign_endpoint import with_assign
from services.assignment.assigner import Assigner
from services.assignment.assignments import Assignments
from services.assignment.bootstrap import bootstrap_keys
from services.assignment.directory import Directory
from services.assignment.domain.switches import Switchboard
from services.assignment.evaluator import Evaluator
from services.assignment.experiment_store import ExperimentStore
from services.assignment.exposures import Exposures
from services.assignment.flag_api import flag_routes
from services.assignment.flag_directory import FlagDirectory
from services.assignment.flag_store import FlagStore
from services.assignment.http import needed_scope, rest_api
from services.assignment.key_store import KeyStore
from services.assignment.memory import FirstAnswers
from services.assignment.ofrep_endpoint import with_evaluate
from services.assignment.publication import Publication
from services.assignment.results_api import results_routes
from services.assignment.results_view import ResultsView
from services.assignment.switch_api import SwitchRoutes
from services.assignment.switches import Switches
from shared.clock import system_clock
from shared.http import AsgiApp, Server, service_app
from shared.kafka import Publisher, Replica
from shared.keys import KeyRing
from shared.messages import ApiKey, Message
from shared.postgres import create_pool
from shared.settings import Settings
from shared.telemetry import configure_logging
from shared.topics import EXPERIMENTS, FLAGS, KEYS, SWITCHES, Topic

T = TypeVar("T", bound=Message)

REMEMBERED_UNITS = 100_000


async def assignment_app(settings: Settings, resources: AsyncExitStack, background: asyncio.TaskGroup) -> AsgiApp:
    """The application with everything it needs started; `resources` stops it all, last started first."""
    registry = CollectorRegistry()
    first_keys = bootstrap_keys(settings.bootstrap_keys)

    pool = await create_pool(settings.postgres, name="assignment", size=4)
    resources.push_async_callback(pool.close)
    # Its own connection and a short patience: neither a slow list nor a hanging Postgres may hold up an answer.
    rows_pool = await create_pool(settings.postgres, name="assignment-rows", size=1, command_timeout=2)
    resources.push_async_callback(rows_pool.close)

    publisher = Publisher(settings.kafka)
    resources.push_async_callback(publisher.stop)
    await publisher.start()

    ring, directory, flags = KeyRing(), Directory(), FlagDirectory()
    switches = Switches(Switchboard(), publisher, system_clock, registry)
    known_keys: set[str] = set()

    def learn_key(key: ApiKey) -> None:
        ring.learn(key)
        known_keys.add(key.prefix)

    copies: list[Replica[Any]] = []

    async def copy_of(topic: Topic[T], learn: Callable[[T], None]) -> Replica[T]:
        copy = Replica(settings.kafka, topic, learn)
        resources.push_async_callback(copy.stop)
        await copy.start()
        copies.append(copy)
        return copy

    await copy_of(KEYS, learn_key)
    await copy_of(EXPERIMENTS, directory.learn)
    flags_copy = await copy_of(FLAGS, flags.learn)
    switches.follow(await copy_of(SWITCHES, switches.apply))

    flag_store = FlagStore(pool, publisher, flags_copy, flags.version)
    resources.push_async_callback(flag_store.stop)
    await flag_store.start()
    experiment_store, key_store = ExperimentStore(pool), KeyStore(pool)
    publication = Publication(publisher, experiment_store, key_store, directory, ring)

    async def add_first_keys() -> None:
        for key in first_keys:
            await key_store.add(key, "bootstrap", system_clock())

    _run(background, resources, publication.run(add_first_keys))

    exposures = Exposures(publisher, registry)
    resources.push_async_callback(exposures.drain)
    assignments = Assignments(rows_pool, registry)
    _run(background, resources, assignments.run())
    resources.push_async_callback(assignments.drain)

    memory = FirstAnswers(REMEMBERED_UNITS)
    assigner = Assigner(directory, switches.board, memory, assignments, exposures, system_clock, registry)
    evaluator = Evaluator(flags, directory, switches.board, assigner, registry)
    experiments = Experiments(experiment_store, publication, system_clock)
    rest = rest_api(
        experiment_routes(experiments),
        results_routes(directory, ResultsView(pool), publisher, system_clock),
        apply_routes(experiments),
        flag_routes(flag_store),
        SwitchRoutes(switches, flags, directory).routes(),
        key_routes(key_store, publication, system_clock),
    )

    def waiting_for() -> str | None:
        for copy in copies:
            if (reason := copy.waiting_for()) is not None:
                return reason
        if not known_keys >= {key.prefix for key in first_keys}:
            return "the first keys are not published yet"
        return None

    return service_app(
        with_assign(assigner, with_evaluate(evaluator, rest)),
        keys=ring,
        needed=needed_scope,
        ready=waiting_for,
        registry=registry,
    )


def _run(background: asyncio.TaskGroup, resources: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` until the resources are released; if it fails, the process ends."""
    task = background.create_task(work)
    resources.callback(task.cancel)


async def main() -> None:
    settings = Settings.from_environment(os.environ)
    configure_logging("assignment", settings.log_level)
    async with asyncio.TaskGroup() as background, AsyncExitStack() as resources:
        app = await assignment_app(settings, resources, background)
        await Server(app, host=settings.host, port=settings.port).run()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())

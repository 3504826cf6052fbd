"""Killed while the store is asked: who does not get the variant is not exposed to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.assignment.assigner import Assigner
from services.assignment.assignments import Assignments
from services.assignment.directory import Directory, Entry
from services.assignment.domain.bucketing import bucket_of
from services.assignment.domain.changes import Patch, with_patch
from services.assignment.domain.decision import Reason
from services.assignment.domain.experiment import to_message
from services.assignment.domain.facts import Ids
from services.assignment.domain.switches import Switchboard
from services.assignment.exposures import Exposures
from services.assignment.memory import FirstAnswers
from shared.messages import Event, Switch
from shared.topics import Topic
from tests.unit.assignment.definitions import accepted, running

KILL = Switch(
    organisation="default", flag="imports", variant="background", cause="breaker:b", off=True, decided_at=1_000
)
RESTORE = Switch(
    organisation="default", flag="imports", variant="background", cause="breaker:b", off=False, decided_at=2_000
)


class Table:
    """The table of assignments in memory, as a pool; `before_answer` runs while it is asked."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, str], tuple[int, datetime]] = {}
        self.before_answer: list[Callable[[], Any]] = []

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Table]:
        yield self

    async def execute(
        self, _: str, ids: Sequence[int], units: Sequence[str], variants: Sequence[int], *more: Any
    ) -> None:
        for place in zip(ids, units, variants, more[-1], strict=True):
            self.rows.setdefault(place[:2], place[2:])

    async def fetch(self, _: str, ids: Sequence[int], units: Sequence[str]) -> list[dict[str, Any]]:
        if self.before_answer:
            done = self.before_answer.pop(0)()
            if done is not None:
                await done
        asked = [place for place in zip(ids, units, strict=True) if place in self.rows]
        names = ("experiment_id", "unit", "variant_id", "assigned_at")
        return [dict(zip(names, (*place, *self.rows[place]), strict=True)) for place in asked]


class Log:
    def __init__(self) -> None:
        self.exposed: list[tuple[str | None, Any]] = []

    async def publish(self, topic: Topic[Event], message: Event, *, deadline: float = 10) -> tuple[int, int]:
        self.exposed.append((message.user_id, message.properties["variant"]))
        return 0, 0


class World:
    """An experiment whose split has moved from 50 % to 90 % `background`, and a unit that moved with it."""

    def __init__(self) -> None:
        self.table, self.log, self.board = Table(), Log(), Switchboard()
        registry, directory = CollectorRegistry(), Directory()
        moved = accepted(with_patch(running(), Patch(plan={"realtime": 100_000, "background": 900_000})))
        directory.learn(to_message(moved))
        entry = directory.by_key("default", "imports")
        assert entry is not None
        self.entry: Entry = entry
        self.assignments = Assignments(self.table, registry)
        self.assigner = Assigner(
            directory,
            self.board,
            FirstAnswers(100),
            self.assignments,
            Exposures(self.log, registry),
            self.tick,
            registry,
        )
        self.now = 5_000
        self.unit = next(u for u in (f"u{n}" for n in range(100)) if 100_000 <= bucket_of("imports", u) < 500_000)

    def tick(self) -> int:
        self.now += 1
        return self.now

    def bound_for(self, variant: str, prefix: str) -> str:
        """An id that the split gives the variant, and always gave it."""
        share = range(100_000) if variant == "realtime" else range(500_000, 1_000_000)
        return next(u for u in (f"{prefix}{n}" for n in range(1_000)) if bucket_of("imports", u) in share)

    async def answer(self, ids: Ids | None = None) -> tuple[str | None, Reason, bool]:
        resolution = await self.assigner.resolve(self.entry, ids or Ids(user=self.unit), {})
        variant = resolution.variant
        return None if variant is None else variant.name, resolution.reason, resolution.assigned


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    serving = asyncio.create_task(made.assignments.run())
    yield made
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_variant_that_is_killed_while_the_store_is_asked_is_neither_given_nor_exposed(world: World) -> None:
    world.table.before_answer.append(lambda: world.board.apply(KILL))
    assert await world.answer() == ("realtime", Reason.KILLED, False)
    assert world.log.exposed == []


async def test_a_killed_variant_that_a_slow_store_names_at_last_is_not_exposed(world: World) -> None:
    world.board.apply(KILL)
    world.table.before_answer.append(lambda: asyncio.sleep(0.3))  # longer than anybody waits for a look-up
    assert await world.answer() == ("realtime", Reason.KILLED, False)
    assert world.log.exposed == []


async def test_who_met_a_kill_on_the_way_is_exposed_once_the_variant_is_back(world: World) -> None:
    world.table.before_answer.append(lambda: world.board.apply(KILL))
    await world.answer()
    world.board.apply(RESTORE)
    assert await world.answer() == ("background", Reason.SPLIT, True)
    assert await world.answer() == ("background", Reason.SPLIT, True)
    assert world.log.exposed == [(world.unit, "background")]


async def test_a_visitor_takes_part_under_its_anonymous_id_and_keeps_its_variant_as_a_user(world: World) -> None:
    visitor, user = world.bound_for("realtime", "v"), world.bound_for("background", "u")
    assert await world.answer(Ids(anonymous=visitor)) == ("realtime", Reason.SPLIT, True)
    for _ in range(2):
        assert await world.answer(Ids(user=user, anonymous=visitor)) == ("realtime", Reason.STICKY, True)
    assert await world.answer(Ids(user=user)) == ("realtime", Reason.STICKY, True), "also without the other id"
    assert world.log.exposed == [(None, "realtime"), (user, "realtime")]


async def test_of_two_exposures_the_earlier_is_answered_and_nobody_is_exposed_again(world: World) -> None:
    visitor, user = world.bound_for("realtime", "v"), world.bound_for("background", "u")
    await world.answer(Ids(anonymous=visitor))
    assert await world.answer(Ids(user=user)) == ("background", Reason.SPLIT, True)
    for _ in range(2):
        assert await world.answer(Ids(user=user, anonymous=visitor)) == ("realtime", Reason.STICKY, True)
    assert world.log.exposed == [(None, "realtime"), (user, "background")]


async def test_a_user_who_was_exposed_first_keeps_the_variant_whatever_visitor_it_is(world: World) -> None:
    visitor, user = world.bound_for("realtime", "v"), world.bound_for("background", "u")
    await world.answer(Ids(user=user))
    await world.answer(Ids(anonymous=visitor))
    for _ in range(2):
        assert await world.answer(Ids(user=user, anonymous=visitor)) == ("background", Reason.SPLIT, True)


async def test_a_link_that_cannot_be_looked_up_is_answered_as_if_there_were_none(world: World) -> None:
    visitor, user = world.bound_for("realtime", "v"), world.bound_for("background", "u")
    await world.answer(Ids(anonymous=visitor))
    world.table.before_answer.append(lambda: asyncio.sleep(0.3))  # longer than anybody waits for a look-up
    assert await world.answer(Ids(user=user, anonymous=visitor)) == ("background", Reason.SPLIT, True)

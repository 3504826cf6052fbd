"""When changed rows are published: a metric's together, at once, then five times a second at most, none lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry

from services.aggregator.domain.plan import WindowSeries
from services.aggregator.domain.runs import Run
from services.aggregator.listeners import Listeners
from services.aggregator.store.shards import ShardRow
from services.aggregator.store.streaks import StreakState
from services.aggregator.store.transaction import Applied
from services.aggregator.store.windows import WindowState
from services.aggregator.telemetry import WorkerMetrics
from services.aggregator.updates import INTERVAL, MOST, Updates
from shared.clock import system_clock
from shared.kafka import Publisher
from shared.messages import MetricUpdate, Rule
from tests.waiting import eventually


class Kafka(Publisher):
    """Takes every message at once, unless it is away or held."""

    def __init__(self) -> None:
        super().__init__("")
        self.taken: list[tuple[float, MetricUpdate]] = []
        self.away = False
        self.refuses: str | None = None
        """A part of the series that is refused."""
        self.refused = 0
        self.open = asyncio.Event()
        self.open.set()

    async def publish(self, topic: Any, message: Any, *, deadline: float = 10) -> tuple[int, int]:
        await self.open.wait()
        if self.away or (self.refuses is not None and self.refuses in message.series):
            self.refused += 1
            raise TimeoutError
        self.taken.append((asyncio.get_running_loop().time(), message))
        return 0, 0

    async def publish_all(
        self, topic: Any, messages: Sequence[Any], *, deadline: float = 10
    ) -> list[KafkaError | TimeoutError | None]:
        answers = await asyncio.gather(*(self.publish(topic, m) for m in messages), return_exceptions=True)
        return [answer if isinstance(answer, TimeoutError) else None for answer in answers]

    def revisions(self, subject: str = "m") -> list[int]:
        return [u.revision for _, u in self.taken if u.subject == subject]


class Postgres:
    """Remembers the published revisions that are marked."""

    def __init__(self) -> None:
        self.marked: dict[int, int] = {}

    def acquire(self) -> Any:
        return self._connection()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Postgres]:
        yield self

    async def execute(self, statement: str, shard: int, revision: int) -> None:
        assert "published_revision" in statement
        self.marked[shard] = revision


class Desk:
    """Updates with everything around them."""

    def __init__(self) -> None:
        self.kafka, self.postgres, self.listeners = Kafka(), Postgres(), Listeners()
        metrics = WorkerMetrics(CollectorRegistry())
        self.updates = Updates(self.kafka, cast(Any, self.postgres), system_clock, metrics, self.listeners)

    def offer(self, revision: int, *metrics: str, shard: int = 0, component: str = "value") -> None:
        self.commit(revision, *(window(component, metric=m, n=revision) for m in metrics or ("m",)), shard=shard)

    def commit(self, revision: int, *states: WindowState, shard: int = 0) -> None:
        self.updates.offer(Applied(row(revision, shard), windows=list(states)))


def window(component: str, minute: int = 0, group: str = "[]", *, metric: str = "m", n: int = 1) -> WindowState:
    series = WindowSeries("acme", metric, 1, cast(Any, component), 6)
    return WindowState(series, minute, group, n, 0, 0, None, None, b"")


def row(revision: int, shard: int = 0) -> ShardRow:
    return ShardRow(shard, revision, 0, 0, "g", None, None, 0, revision)


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    found = Desk()
    task = found.updates.start()
    try:
        yield found
        assert not task.done(), task
    finally:
        found.kafka.open.set()
        await found.updates.stop()


async def test_the_first_change_is_sent_at_once_and_of_the_next_the_last_one_later() -> None:
    async with desk() as d:
        began = asyncio.get_running_loop().time()
        for revision in range(1, 6):
            d.offer(revision)
            await asyncio.sleep(0)
        assert await d.updates.published(0, 5)
        (_, one), (second, other) = d.kafka.taken
        assert (one.revision, other.revision) in [(1, 5), (2, 5), (3, 5)], "the first did not wait for the last offer"
        assert second - began >= INTERVAL


async def test_another_series_does_not_wait_for_one_that_rests() -> None:
    async with desk() as d:
        d.offer(1, "a")
        assert await d.updates.published(0, 1)
        d.offer(2, "a", "b")
        await eventually(lambda: _true(d.kafka.revisions("b") == [2]), "b is sent", every=0.005)
        assert d.kafka.revisions("a") == [1]


async def test_a_series_that_never_rests_is_sent_five_times_a_second_in_rising_order() -> None:
    async with desk() as d:
        loop = asyncio.get_running_loop()
        began, revision = loop.time(), 0
        while loop.time() - began < 4.5 * INTERVAL:
            revision += 1
            d.offer(revision)
            await asyncio.sleep(0.001)
        assert await d.updates.published(0, revision)
        times = [at for at, _ in d.kafka.taken]
        assert all(at >= began + turn * INTERVAL for turn, at in enumerate(times))
        assert len(times) >= 4
        assert d.kafka.revisions() == sorted(set(d.kafka.revisions()))
        assert d.kafka.revisions()[-1] == revision


async def test_while_kafka_is_away_nothing_is_lost_and_the_latest_state_is_sent_when_it_is_back() -> None:
    async with desk() as d:
        d.kafka.away = True
        d.offer(1, "a", "b")
        await eventually(lambda: _true(d.kafka.refused >= 2), "both are refused")
        d.offer(2, "a")
        waiting = asyncio.create_task(d.updates.published(0, 1))
        await eventually(lambda: _true(d.kafka.refused >= 4), "and again")
        assert not waiting.done()
        d.kafka.away = False
        assert await waiting
        assert await d.updates.published(0, 2)
        assert d.kafka.revisions("a")[-1] == 2
        assert d.kafka.revisions("b") == [1]


async def test_no_revision_counts_as_published_while_an_older_change_is_under_way() -> None:
    async with desk() as d:
        d.kafka.open.clear()
        d.offer(1, "a")
        await asyncio.sleep(0)
        d.offer(2, "a")
        waiting = asyncio.create_task(d.updates.published(0, 1))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert d.postgres.marked == {}
        d.kafka.open.set()
        assert await waiting
        await eventually(lambda: _true(d.postgres.marked == {0: 2}), "all of it is marked")


async def test_what_waits_for_its_turn_is_not_taken_for_published_when_kafka_refuses_something_newer() -> None:
    async with desk() as d:
        d.offer(1, "a")
        assert await d.updates.published(0, 1)
        d.kafka.away = True
        d.offer(5, "a")
        d.offer(7, "b")
        waiting = asyncio.create_task(d.updates.published(0, 5))
        await eventually(lambda: _true(d.kafka.refused >= 1), "b is refused", every=0.001)
        await asyncio.sleep(0)
        assert d.kafka.revisions("a") == [1]
        assert not waiting.done()
        d.kafka.away = False
        assert await waiting
        assert d.kafka.revisions("a") == [1, 5]


async def test_who_waits_for_a_revision_learns_that_it_has_come_also_if_nobody_hears_it() -> None:
    async with desk() as d:
        d.listeners.learn("rule", Rule(organisation="acme", key="r", version=1, spec={"metric": "heard"}))
        d.offer(1, "unheard")
        waiting = asyncio.create_task(d.updates.published(0, 2))
        await asyncio.sleep(0)
        assert not waiting.done()
        d.offer(2, "unheard")
        async with asyncio.timeout(1):
            assert await waiting


async def test_a_metrics_series_leave_together_and_what_completes_a_pair_follows_it() -> None:
    async with desk() as d:
        d.commit(1, window("denominator"), window("numerator"))
        assert await d.updates.published(0, 1)
        d.commit(2, window("denominator"))
        await asyncio.sleep(INTERVAL / 2)
        d.commit(3, window("denominator"), window("numerator"))
        d.commit(3, window("denominator"), window("numerator"), shard=1)
        assert await d.updates.published(1, 3)
        assert await d.updates.published(0, 3)
        found = [(u.shard, u.revision, json.loads(u.series)[0]) for _, u in d.kafka.taken]
        parts = ("numerator", "denominator")
        assert found == [(shard, rev, part) for shard, rev in ((0, 1), (1, 3), (0, 3)) for part in parts]
        times = [at for at, _ in d.kafka.taken]
        assert times[5] - times[4] < INTERVAL / 4


async def test_pairs_stay_together_the_present_goes_first_and_abandoned_journeys_follow_completed_ones() -> None:
    async with desk() as d:
        pairs = [window(c, m, g) for c in ("denominator", "numerator") for m in (0, 60) for g in ('["a"]', '["b"]')]
        outcomes = [window("outcome", 60, f'["{o}","a"]') for o in ("abandoned_timeout", "completed", "in_progress")]
        d.commit(1, *pairs, *outcomes)
        assert await d.updates.published(0, 1)
        found = [(u.window_start, *json.loads(u.series)) for _, u in d.kafka.taken]
        ratios = [f for f in found if f[1] != "outcome"]
        parts = ("numerator", "denominator")
        assert ratios == [(m, c, g) for m in (60, 0) for g in ('["a"]', '["b"]') for c in parts]
        assert next(f[2] for f in found if f[1] == "outcome") == '["completed","a"]'


async def test_what_a_new_listener_is_told_of_holds_up_the_present_for_one_turn_at_most() -> None:
    async with desk() as d:
        d.commit(1, *(window("value", 60 * i) for i in range(1, 2 * MOST + 2)))
        await eventually(lambda: _true(len(d.kafka.taken) > 0), "the first are sent", every=0.001)
        d.commit(2, window("value", 60 * (2 * MOST + 5)))
        waiting = asyncio.create_task(d.updates.published(0, 1))
        await eventually(lambda: _true(len(d.kafka.taken) > MOST), "the next turn has come", every=0.001)
        assert d.kafka.taken[MOST][1].revision == 2
        assert not waiting.done(), "the oldest are still to come"
        assert await waiting
        starts = [u.window_start for _, u in d.kafka.taken]
        assert sorted(starts) == sorted(set(starts))
        assert len(starts) == 2 * MOST + 2


async def test_only_what_kafka_refused_is_sent_again() -> None:
    async with desk() as d:
        d.kafka.refuses = 'b\\"]'
        d.commit(1, *(window("value", group=g) for g in ('["a"]', '["b"]', '["c"]')))
        await eventually(lambda: _true(d.kafka.refused >= 1), "one is refused", every=0.001)
        d.commit(2, window("value", group='["b"]', n=2))
        waiting = asyncio.create_task(d.updates.published(0, 1))
        await asyncio.sleep(0)
        assert not waiting.done()
        d.kafka.refuses = None
        assert await waiting
        assert [(json.loads(u.series)[1], u.revision) for _, u in d.kafka.taken] == [
            ('["a"]', 1),
            ('["c"]', 1),
            ('["b"]', 2),
        ]


async def test_what_nobody_hears_counts_as_published() -> None:
    async with desk() as d:
        d.listeners.learn("rule", Rule(organisation="acme", key="r", version=1, spec={"metric": "heard"}))
        d.offer(7, "unheard")
        assert await d.updates.published(0, 7)
        assert d.kafka.taken == []
        await eventually(lambda: _true(d.postgres.marked == {0: 7}), "and is marked")


async def test_what_no_rule_can_name_is_for_reports_only() -> None:
    async with desk() as d:
        for revision, component in enumerate(("step", "drop_off", "outcome", "duration", "stage"), start=1):
            d.offer(revision, component=component)
            assert await d.updates.published(0, revision)
        assert {u.series for _, u in d.kafka.taken} == {'["outcome","[]"]', '["stage","[]"]'}


async def test_a_shard_that_is_given_up_sends_nothing_more_and_keeps_nobody_waiting() -> None:
    async with desk() as d:
        d.kafka.open.clear()
        d.offer(1, "a", shard=1)
        await asyncio.sleep(0.01)
        d.offer(2, "a", shard=1)
        waiting = asyncio.create_task(d.updates.published(1, 2))
        leaving = asyncio.create_task(d.updates.forget([1]))
        assert not await waiting
        await asyncio.sleep(0.01)
        assert not leaving.done(), "what is on its way could overtake the new owner's"
        d.kafka.open.set()
        await leaving
        d.offer(3, "a", shard=0)
        assert await d.updates.published(0, 3)
        await asyncio.sleep(1.5 * INTERVAL)
        assert [(u.shard, u.revision) for _, u in d.kafka.taken] == [(1, 1), (0, 3)]
        assert not await d.updates.published(1, 1)


async def test_of_what_leaves_in_many_parts_a_shard_that_is_given_up_sends_no_further_part() -> None:
    async with desk() as d:
        d.kafka.open.clear()
        d.commit(1, *(window("value", 60 * i) for i in range(MOST)))
        await asyncio.sleep(0.01)
        leaving = asyncio.create_task(d.updates.forget([0]))
        await asyncio.sleep(0)
        d.kafka.open.set()
        await leaving
        assert 0 < len(d.kafka.taken) < MOST / 2


async def test_a_streak_travels_with_its_latest_success_and_failures() -> None:
    async with desk() as d:
        state = StreakState(WindowSeries("acme", "s", 3, "streak", 0), '["a"]', Run(5, (7, 9), 12))
        d.updates.offer(Applied(row(4), streaks=[state]))
        assert await d.updates.published(0, 4)
        ((_, update),) = d.kafka.taken
        assert (update.series, update.window_start, update.version) == ('["streak","[\\"a\\"]"]', 0, 3)
        assert (update.latest_success, update.failures, update.n, update.revision) == (5, (7, 9), 12, 4)


async def _true(condition: bool) -> bool:
    return condition

"""Units of experiments in Postgres, against what all events together say: in any order, cut and mix of shards."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict
from random import Random
from statistics import variance
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.aggregator.domain.batch import Record, judge, read_batch
from services.aggregator.domain.fold import fold
from services.aggregator.domain.metrics import Definition, parse_definition
from services.aggregator.domain.plan import Plan, make_plan
from services.aggregator.domain.runs import Run
from services.aggregator.domain.seen import SeenIds
from services.aggregator.domain.states import LatestRun, decode, merged
from services.aggregator.experiment_api import variant_items
from services.aggregator.experiment_queries import ExperimentQueries
from services.aggregator.store.series import SeriesIds
from services.aggregator.store.shards import ShardRow, create_shard, load_shard
from services.aggregator.store.transaction import apply_batch
from services.aggregator.store.unit_states import forget_waiting
from shared.clock import DAY, HOUR, SECOND, to_datetime
from shared.http import Problem
from shared.postgres import RETRYABLE, Pool, create_pool
from shared.statistics import sketch
from tests.unit.aggregator.builders import NOW, event, experiment, record
from tests.unit.aggregator.reference import Entry, Metric, Outcome, reference
from tests.unit.aggregator.unit_reference import UnitOutcome, UnitTotals, unit_reference

SPECS: dict[str, dict[str, Any]] = {
    "n": {"type": "count", "event": "click", "covariate_days": 1},
    "v": {
        "type": "value",
        "value": "properties.v",
        "winsorise": {"lower": -1, "upper": 2.5},
        "aggregations": ["avg", "p95"],
    },
    "c": {"type": "value", "event": "buy", "value": "properties.v", "winsorise": {"upper": 3}, "covariate_days": 2},
    "r": {"type": "ratio", "numerator": {"event": "buy", "value": "properties.v"}, "denominator": {"event": "click"}},
    "k": {
        "type": "streak",
        "event": ["buy", "click"],
        "failure": {"path": "properties.v", "op": "lt", "value": 2},
        "success": {"path": "event_type", "value": "buy"},
        "length": 3,
    },
}
SEGMENTS = ("context.net", "properties.tier")
ARMS = ["control", "treatment"]


@pytest_asyncio.fixture
async def pool(postgres: str) -> AsyncIterator[Pool]:
    pool = await create_pool(postgres, name="test", schema="aggregator", synchronous_commit=False)
    yield pool
    await pool.close()


class Case:
    """An organisation of its own, whose experiments count every metric."""

    numbers = itertools.count()

    def __init__(self) -> None:
        self.organisation = f"o{next(self.numbers)}"
        self.metrics = [Metric(self.organisation, key, 1, spec) for key, spec in SPECS.items()]
        keys = tuple(SPECS)
        self.experiments = [
            experiment("x", organisation=self.organisation, metrics=keys, segments=SEGMENTS),
            experiment("s", organisation=self.organisation, unit="session", metrics=keys, ended_at=NOW + 20 * HOUR),
        ]
        definitions = [parse_definition(m.organisation, m.key, m.version, m.spec) for m in self.metrics]
        self.plan: Plan = make_plan(definitions, self.experiments)

    def expected(self, logs: Iterable[Sequence[Record]], contents: dict[int, Any]) -> UnitOutcome:
        outcomes: list[Outcome] = []
        for log in logs:
            entries = [Entry(r.offset, r.broker_time, contents[id(r)]) for r in log]
            outcomes.append(reference(entries, self.metrics, self.experiments))
        return unit_reference(outcomes, self.metrics)


class Shard:
    """A worker's part for one shard: each call folds and stores one batch."""

    def __init__(self, pool: Pool, row: ShardRow, plan: Plan) -> None:
        self._pool = pool
        self._ids = SeriesIds()
        self._seen = SeenIds()
        self._plan = plan
        self.row = row

    @classmethod
    async def start(cls, pool: Pool, number: int, plan: Plan) -> Shard:
        async with pool.acquire() as connection:
            await connection.execute("DELETE FROM shards WHERE shard = $1", number)
            await connection.execute("DELETE FROM id_digests WHERE shard = $1", number)
            await create_shard(connection, number, 0, "test")
            row = await load_shard(connection, number)
        assert row is not None
        return cls(pool, row, plan)

    async def fold(self, records: Sequence[Record]) -> None:
        batch = read_batch(records)
        verdicts = judge(batch, self.row.watermark, self._seen)
        deltas = fold(batch, verdicts, self._plan)
        async with self._pool.acquire() as connection:
            await self._ids.register_windows(connection, self._plan.window_series())
        while True:
            try:
                applied = await apply_batch(
                    self._pool, self.row, batch, verdicts, deltas, self._ids, [], now=records[-1].broker_time
                )
                break
            except RETRYABLE:
                continue
        self._seen.add(batch.digests, verdicts.minutes)
        self.row = applied.shard


LEADS = [0, 0, 0, -1, SECOND, -4 * SECOND, -5 * SECOND, -6 * SECOND, -HOUR, -5 * HOUR, -23 * HOUR, -25 * HOUR]
STEPS = [0, 0, SECOND, SECOND, 10 * SECOND, HOUR, 6 * HOUR, DAY]


def some_event(choose: Any, organisation: str, number: int) -> dict[str, Any]:
    kind = choose(["click", "click", "buy", "buy", "experiment_exposure", "experiment_exposure", "experiment_result"])
    properties: dict[str, Any] = {
        "tier": choose(["free", "paid", None, 3, "x" * 201]),
        "v": choose([1, 2.5, -3, 0, "?"]),
    }
    if kind.startswith("experiment"):
        properties |= {"experiment": choose(["x", "x", "s"]), "variant": choose(["control", *ARMS, "control"])}
        properties |= {"metric_name": "m", "metric_value": choose([7, -1.5])}
    return event(
        organisation=organisation,
        event_id=f"e{number}",
        event_type=kind,
        user_id=choose(["u1", "u2", "ü3", None]),
        anonymous_id=choose(["v", "u1", None]),
        session_id=choose(["s1", "s2", None]),
        context={"net": choose(["4g", "wifi", None])},
        properties=properties,
    )


def logs_of(choose: Any, organisation: str, size: int, shards: int) -> tuple[list[list[Record]], dict[int, Any]]:
    """Each shard's log, and what each of its records holds."""
    logs: list[list[Record]] = [[] for _ in range(shards)]
    contents: dict[int, Any] = {}
    now = NOW
    for number in range(size):
        now += choose(STEPS)
        log = logs[choose(list(range(shards)))]
        one = some_event(choose, organisation, number)
        one["time"] = now + choose(LEADS)
        log.append(record(len(log), one, now))
        contents[id(log[-1])] = one
    return logs, contents


def cut(random: Random, log: Sequence[Record]) -> list[Sequence[Record]]:
    batches: list[Sequence[Record]] = []
    while log:
        size = random.randint(1, len(log))
        batches.append(log[:size])
        log = log[size:]
    return batches


async def store(pool: Pool, case: Case, logs: Sequence[Sequence[Record]], random: Random, *, at_once: bool) -> None:
    """In batches of any size, the shards' batches in any order, or all shards at once."""
    shards = [await Shard.start(pool, i, case.plan) for i in range(len(logs))]
    batches = [cut(random, log) for log in logs]

    async def write(number: int) -> None:
        for batch in batches[number]:
            await shards[number].fold(batch)

    if at_once:
        await asyncio.gather(*map(write, range(len(logs))))
        return
    order = [number for number, of_shard in enumerate(batches) for _ in of_shard]
    random.shuffle(order)
    for number in order:
        await shards[number].fold(batches[number].pop(0))


async def check(pool: Pool, organisation: str, expected: UnitOutcome) -> None:
    """Every row of units, all totals over units, and those over events as far as they depend on no order."""
    units = await pool.fetch(
        "SELECT s.experiment, u.unit, u.first_exposure, u.variant, u.conflicted, u.context FROM experiment_units u "
        "JOIN experiment_series s ON s.id = u.series_id WHERE s.organisation = $1 AND u.variant IS NOT NULL",
        organisation,
    )
    assert {tuple(u[:2]): tuple(u[2:]) for u in units} == expected.states
    rows = await pool.fetch(
        "SELECT s.experiment, s.metric, v.unit, v.n, v.sum, v.other_n, v.other, v.variant, v.counts_from, "
        "v.conflicted FROM unit_values v JOIN experiment_series s ON s.id = v.series_id WHERE s.organisation = $1",
        organisation,
    )
    assert {tuple(r[:3]): tuple(map(int, r[3:7])) for r in rows} == expected.rows
    for row in rows:
        first, variant, conflicted, _ = expected.states[row["experiment"], row["unit"]]
        assert tuple(row[7:]) == (variant, first - 5 * SECOND, conflicted)
    waiting = await pool.fetchval(
        "SELECT count(*) FROM unit_waiting w JOIN experiment_series s ON s.id = w.series_id "
        "WHERE s.organisation = $1",
        organisation,
    )
    assert waiting == expected.waiting
    totals = await pool.fetch(
        "SELECT s.experiment, s.metric, s.component, t.* FROM experiment_totals t "
        "JOIN experiment_series s ON s.id = t.series_id WHERE s.organisation = $1",
        organisation,
    )
    check_units(totals, expected)
    check_events(totals, expected)


def check_units(totals: Sequence[Any], expected: UnitOutcome) -> None:
    found: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    names = list(asdict(UnitTotals()))
    for t in totals:
        place = (t["experiment"], t["metric"], t["component"], t["variant"])
        found[place].update({name: int(t[name]) for name in names})
    assert {p: dict(c) for p, c in found.items() if any(c.values())} == {
        p: asdict(t) for p, t in expected.totals.items() if any(asdict(t).values())
    }


def check_events(totals: Sequence[Any], expected: UnitOutcome) -> None:
    """Where conflicted units gave something, variants are taken together."""

    def place_of(experiment: str, metric: str, component: str, variant: str) -> tuple[str, ...]:
        astray = (experiment, metric, component) in expected.astray
        return (experiment, metric, component, "" if astray else variant)

    values: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, given_there in expected.events.items():
        values[place_of(*place)] += given_there
    for place3, given_there in expected.astray.items():
        values[(*place3, "")] += given_there
    found: dict[tuple[str, ...], list[Any]] = defaultdict(list)
    for t in totals:
        if t["observations"]:
            found[place_of(t["experiment"], t["metric"], t["component"], t["variant"])].append(t)
    assert found.keys() == {p for p, v in values.items() if v}
    for at, shards in found.items():
        given_there = values[at]
        assert sum(t["observations"] for t in shards) == len(given_there)
        if at[1] == "k":
            check_streak([t["state"] for t in shards], given_there)
            continue
        assert sum(t["sum"] for t in shards) == sum(given_there)
        assert sum(t["sum_squares"] for t in shards) == sum(v * v for v in given_there)
        assert min(t["min"] for t in shards) == min(given_there)
        assert max(t["max"] for t in shards) == max(given_there)
        counts: sketch.Counts = {}
        for t in shards:
            sketch.merge(counts, sketch.decode(t["state"]))
        sketched = at[1] == "v"
        assert counts == (Counter(sketch.buckets_of(np.array(given_there)).tolist()) if sketched else {})


def check_streak(states: Sequence[bytes], endings: Sequence[int]) -> None:
    success = max((e // 4 for e in endings if e % 4 == 1), default=0)
    failures = sorted(e // 4 for e in endings if e % 4 == 0 and e // 4 > success)
    found = None
    for raw in states:
        found = merged(found, decode(raw))
    assert isinstance(found, LatestRun)
    assert found.run == Run(success, tuple(failures[-3:]))


bounded = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@bounded
@given(st.data())
async def test_any_cut_and_order_gives_what_all_events_together_say(pool: Pool, data: st.DataObject) -> None:
    case = Case()

    def choose(options: list[Any]) -> Any:
        return data.draw(st.sampled_from(options))

    logs, contents = logs_of(choose, case.organisation, data.draw(st.integers(1, 25)), data.draw(st.integers(1, 3)))
    await store(pool, case, logs, data.draw(st.randoms(use_true_random=False)), at_once=False)
    await check(pool, case.organisation, case.expected(logs, contents))


@pytest.mark.parametrize("seed", range(6))
async def test_shards_that_write_the_same_units_at_once_give_what_all_events_together_say(
    pool: Pool, seed: int
) -> None:
    random, case = Random(seed), Case()
    logs, contents = logs_of(random.choice, case.organisation, 400, 3)
    await store(pool, case, logs, random, at_once=True)
    await check(pool, case.organisation, case.expected(logs, contents))


async def shown(
    pool: Pool, organisation: str, metric: str, definition: Definition | None = None, **asked: str
) -> dict[tuple[str, ...], dict[str, Any]]:
    """What the API answers, by variant, then segment or part or component where there is one."""
    wanted: dict[str, Any] = {"time_window": None, "aggregation": None, "segment": None, **asked}
    items = await variant_items(ExperimentQueries(pool), organisation, "x", metric, definition, **wanted)
    found = {}
    for item in items:
        segment = "" if item["segment"] is None else str(next(iter(item["segment"].values())))
        component = item.get("component", "value")
        name = item["part"] or (component if component != "value" else "")
        reading = "" if asked.get("aggregation") or "aggregation_type" not in item else "its"
        found[
            tuple(n for n in (item["variant"], segment, name, reading, reading and item["aggregation_type"]) if n)
        ] = item
    return found


JOURNEY = {"type": "journey", "unit": "user", "start": {"event": "begin"}, "complete": {"event": "done"}}


async def test_a_metric_is_shown_by_variant_and_segment_whatever_its_type(pool: Pool) -> None:
    case = Case()
    journey = parse_definition(case.organisation, "j", 1, JOURNEY)
    survey = parse_definition(
        case.organisation, "q", 1, {"type": "survey", "event": "buy", "questions": {"v": {}, "stars": {}}}
    )
    definitions = [parse_definition(m.organisation, m.key, m.version, m.spec) for m in case.metrics]
    unique = parse_definition(case.organisation, "d", 1, {"type": "unique", "event": "buy", "of": "properties.v"})
    parts = parse_definition(
        case.organisation,
        "b",
        1,
        {"type": "breakdown", "event": "buy", "of": "properties.kinds", "max_groups": 2},
    )
    keys = (*SPECS, "q", "d", "b")
    everything = experiment("x", organisation=case.organisation, metrics=keys, segments=SEGMENTS)
    plan = make_plan([*definitions, journey, survey, unique, parts], [everything])

    def did(user: str, kind: str, seconds: int, net: str = "4g", **properties: Any) -> dict[str, Any]:
        return event(
            organisation=case.organisation,
            event_type=kind,
            user_id=user,
            time=NOW + seconds * SECOND,
            context={"net": net},
            properties=properties,
        )

    def exposed(user: str, variant: str, net: str = "4g") -> dict[str, Any]:
        return did(user, "experiment_exposure", 0, net, experiment="x", variant=variant)

    told = [
        exposed("a", "control"),
        exposed("b", "control", "wifi"),
        exposed("c", "treatment"),
        *(exposed("both", variant) for variant in ARMS),
        did("a", "buy", 1, v=1, stars=5, kinds=["x", "y", "z"]),
        did("a", "buy", 2, v=2),
        did("b", "buy", 2, v=4, kinds=["w", "x"]),
        did("b", "buy", 3, v=4),
        did("both", "buy", 3, v=100),
        did("a", "click", 3),
        did("a", "begin", 4),
        did("a", "done", 6),
        did("b", "begin", 4),
        did("c", "begin", -60),
        did("both", "begin", 4),
    ]
    shard = await Shard.start(pool, 0, plan)
    await shard.fold([record(i, {**one, "event_id": f"e{i}"}, NOW + 9 * SECOND) for i, one in enumerate(told)])

    control = (await shown(pool, case.organisation, "v", aggregation="p50"))["control",]
    assert (control["count"], control["sum"], control["max"]) == (5, 111, 100)
    assert control["variance"] == pytest.approx(variance([1, 2, 4, 4, 100]))
    assert (control["units"], control["unit_mean"], control["exposed"], control["conflicted"]) == (2, 2.5, 2, 1)
    assert control["metric_value"] == pytest.approx(4, rel=0.02)
    by_net = await shown(pool, case.organisation, "v", segment="context.net")
    assert {k: (i["count"], i["sum"], i["units"], i["exposed"], i["conflicted"]) for k, i in by_net.items()} == {
        ("control", "4g"): (2, 3, 1, 1, 1),
        ("control", "wifi"): (2, 8, 1, 1, 0),
        ("treatment", "4g"): (0, 0, 0, 1, 0),
    }
    ratio = await shown(pool, case.organisation, "r", segment="context.net")
    assert ratio["control", "4g", "numerator"]["unit_sum"] == 3
    assert ratio["control", "4g", "denominator"]["unit_sum"] == 1
    assert ratio["control", "4g", "numerator"]["other"]["of"] == "denominator"
    assert ratio["control", "4g", "numerator"]["ratio"] == 3
    assert ratio["control", "wifi", "numerator"]["ratio"] is None
    assert "ratio" not in ratio["control", "4g", "denominator"]
    answers = await shown(pool, case.organisation, "q")
    assert {key: item["mean"] for key, item in answers.items()} == {
        ("control", "stars"): 5,
        ("control", "v"): pytest.approx(111 / 5),
    }
    categories = await shown(pool, case.organisation, "b")
    assert {key: (i["count"], i["units"]) for key, i in categories.items()} == {
        ("control", "other"): (2, 2),
        ("control", "x"): (2, 2),
        ("control", "y"): (1, 1),
    }
    different = await shown(pool, case.organisation, "d")
    assert [(i["unique"], i["count"], i["units"], i["error"]) for i in different.values()] == [(4, 5, 2, 0)]
    asked = await shown(pool, case.organisation, "d", unique, aggregation="unique")
    assert [i["metric_value"] for i in asked.values()] == [4]
    cut = await shown(pool, case.organisation, "d", unique, aggregation="unique", segment="context.net")
    assert {i["metric_value"] for i in cut.values()} == {None}
    streaks = await shown(pool, case.organisation, "k")
    assert [(i["streak"], i["count"], i["group"]) for i in streaks.values()] == [(0, 6, {})]
    elsewhere = await pool.fetch(
        "SELECT DISTINCT metric FROM v1_experiment_totals WHERE organisation = $1", case.organisation
    )
    assert {m for (m,) in elsewhere} >= {"v", "n", "d"}
    assert "k" not in {m for (m,) in elsewhere}, "a run of failures has no mean"
    with pytest.raises(Problem, match="histogram"):
        await shown(pool, case.organisation, "c", definitions[2], aggregation="p50")
    both = await shown(pool, case.organisation, "j", journey)
    states = {key: item for key, item in both.items() if "aggregation_type" not in item}
    assert {key: (i["count"], i["share"], i["mean"], i["conflicted"]) for key, i in states.items()} == {
        ("control", "completed"): (1, 0.5, 2_000, 0),
        ("control", "in_progress"): (1, 0.5, None, 1),
    }
    assert ("control", "wifi", "in_progress") in await shown(
        pool, case.organisation, "j", journey, segment="context.net"
    )
    with pytest.raises(Problem, match="nothing is counted"):
        await shown(pool, case.organisation, "unknown")
    with pytest.raises(Problem, match="nothing is counted"):
        await shown(pool, "another organisation", "j", journey)


async def test_failures_in_a_row_are_told_by_variant_and_group_whatever_order_events_come_in(pool: Pool) -> None:
    organisation = Case().organisation
    spec = {
        "type": "streak",
        "event": "import",
        "failure": {"path": "properties.status", "value": "failed"},
        "group_by": ["properties.source", "context.net"],
    }
    metric = parse_definition(organisation, "k", 1, spec)
    everything = experiment("x", organisation=organisation, metrics=("k",), segments=SEGMENTS)
    plan = make_plan([metric], [everything])

    def did(user: str, second: int, status: str, source: str = "csv", **properties: Any) -> dict[str, Any]:
        kind = "import" if status else "experiment_exposure"
        return event(
            organisation=organisation,
            event_type=kind,
            user_id=user,
            time=NOW + second * SECOND,
            context={"net": "4g"},
            properties={"status": status, "source": source, **properties},
        )

    def exposed(user: str, variant: str) -> dict[str, Any]:
        return did(user, 0, "", experiment="x", variant=variant)

    told = [
        did("a", 1, "failed"),
        did("a", 3, "failed"),
        did("a", -9, "failed"),
        did("b", 2, "success"),
        did("c", 4, "success"),
        did("c", 5, "failed", "x" * 200),
        did("c", 6, "failed", "\U00020000" * 200),
        did("nobody", 8, "success"),
        *(exposed(user, variant) for user, variant in (("a", "control"), ("b", "control"), ("c", "treatment"))),
        did("b", 5, "failed"),
        did("c", 5, "failed", "sql"),
        did("c", 4, "failed", "api"),
    ]
    records = [record(i, {**one, "event_id": f"e{i}"}, NOW + 9 * SECOND) for i, one in enumerate(told)]
    shards = [await Shard.start(pool, i, plan) for i in range(2)]
    for place, one in enumerate(records):
        shard = shards[place % 2]
        await shard.fold([Record(shard.row.next_offset, one.broker_time, one.value)])

    async def read(**asked: str | None) -> list[dict[str, Any]]:
        wanted: dict[str, Any] = {"time_window": None, "aggregation": None, "segment": None, **asked}
        return await variant_items(ExperimentQueries(pool), organisation, "x", "k", metric, **wanted)

    items = await read(aggregation="streak")
    found = {
        (i["variant"], i["group"]["properties.source"]): (i["metric_value"], i["streak"], i["count"], i["units"])
        for i in items
    }
    assert found == {
        ("control", "csv"): (2, 2, 4, 2),
        ("treatment", "csv"): (0, 0, 1, 1),
        ("treatment", "api"): (1, 1, 1, 1),
        ("treatment", "other"): (1, 1, 1, 1),
        ("treatment", "sql"): (1, 1, 1, 1),
        ("treatment", "x" * 200): (1, 1, 1, 1),
    }
    assert {(i["part"], i["sum"], i["unit_mean"], i["includes_conflicted"]) for i in items} == {
        (None, None, None, True)
    }
    by_net = await read(segment="context.net")
    assert {(i["streak"], i["count"]) for i in by_net if i["group"]["properties.source"] == "csv"} == {
        (None, 4),
        (None, 1),
    }
    with pytest.raises(Problem, match="streak, count"):
        await read(aggregation="sum")
    newer = parse_definition(organisation, "k", 2, {**spec, "group_by": ["event_type"]})
    older = await variant_items(
        ExperimentQueries(pool), organisation, "x", "k", newer, time_window=None, aggregation=None, segment=None
    )
    assert '["csv","4g"]' in {i["part"] for i in older}, "what its paths were then is not known any more"


async def test_a_visitors_journeys_are_cut_by_the_visitors_variant(pool: Pool) -> None:
    case = Case()
    metric = parse_definition(case.organisation, "j", 1, {**JOURNEY, "unit": "session"})
    plan = make_plan([metric], [experiment("x", organisation=case.organisation)])
    exposure = {"experiment": "x", "variant": "control"}
    told = [("experiment_exposure", exposure), ("begin", {}), ("done", {})]
    shard = await Shard.start(pool, 0, plan)
    await shard.fold(
        [
            record(
                i,
                event(
                    organisation=case.organisation,
                    event_id=f"e{i}",
                    event_type=kind,
                    anonymous_id="visitor",
                    session_id="s",
                    properties=properties,
                ),
            )
            for i, (kind, properties) in enumerate(told)
        ]
    )
    states = await shown(pool, case.organisation, "j", metric)
    assert {key: item["count"] for key, item in states.items() if item["part"]} == {("control", "completed"): 1}


async def test_the_longest_texts_that_a_record_may_hold_stop_no_partition(pool: Pool) -> None:
    """They stand in keys, of which Postgres takes no more than 2,700 bytes; what is random cannot be compressed."""
    random = Random(1)

    def text(length: int) -> str:
        return "".join(chr(random.randrange(0x20000, 0x2A000)) for _ in range(length))

    organisation, name = text(200), "n" * 64
    by = {"group_by": ["properties.a", "properties.b", "properties.c"]}
    stages = [{"name": name, "event": "begin"}, {"name": "m" * 64, "event": "never"}]
    within = {"name": name, "event": "done", "by": "user", "within": "1h", "distinct": "properties.a"}
    specs = {
        "b": {"type": "breakdown", "event": "begin", "of": "properties.d", **by, "group_by": by["group_by"][:2]},
        "f": {
            "type": "funnel",
            "unit": "user",
            "stages": stages,
            "drop_off": {"event": "fell", "reason": "properties.d"},
            **by,
        },
        "j": {**JOURNEY, "unit": "session", "correlate": [within], **by},
        "s": {"type": "streak", "event": "begin", "failure": {"path": "event_type", "value": "begin"}, **by},
        "n": {"type": "count", **by},
    }
    definitions = [parse_definition(organisation, key, 1, spec) for key, spec in specs.items()]
    everything = experiment("x", organisation=organisation, metrics=("b", "n"))
    shard = await Shard.start(pool, 0, make_plan(definitions, [everything]))
    ids = {"user_id": text(500), "anonymous_id": text(500), "session_id": text(500)}
    texts = {key: text(199) for key in "abcd"}
    asked = {"experiment": "x", "variant": "control", "metric_name": text(200), "metric_value": 1}
    told = [
        event(
            organisation=organisation,
            event_id=text(999) + str(i),
            event_type=kind,
            properties={**texts, **asked},
            time=NOW + i,
            **ids,
        )
        for i, kind in enumerate(("experiment_exposure", "experiment_result", "begin", "fell", "done"))
    ]
    await shard.fold([record(i, one) for i, one in enumerate(told)])
    assert shard.row.next_offset == len(told)
    counted = "SELECT counted FROM organisation_counters WHERE organisation = $1"
    assert await pool.fetchval(counted, organisation) == len(told)


async def test_the_earliest_event_with_both_ids_says_who_a_visitor_is(pool: Pool) -> None:
    case = Case()
    seen = [("b", 5), ("a", 5), ("c", 9), ("v", 0), ("d" * 501, 0)]
    for number in (0, 1):
        shard = await Shard.start(pool, number, case.plan)
        one = [
            event(
                organisation=case.organisation,
                event_id=f"{number}-{i}",
                anonymous_id="v",
                user_id=user,
                time=NOW + (at + 1 - number) * SECOND,
            )
            for i, (user, at) in enumerate(seen)
        ]
        for i, content in enumerate(one):
            await shard.fold([record(i, content, NOW)])
    links = await pool.fetch(
        "SELECT anonymous_id, user_id, at FROM v1_identity_links WHERE organisation = $1", case.organisation
    )
    assert [tuple(link) for link in links] == [("v", "a", to_datetime(NOW + 5 * SECOND))]


async def test_what_only_waits_is_forgotten_before_what_may_become_a_covariate(pool: Pool) -> None:
    case = Case()
    shard = await Shard.start(pool, 0, case.plan)
    told = [
        event(
            organisation=case.organisation, event_id=f"e{i}", event_type="buy", user_id=f"u{i}", properties={"v": 1}
        )
        for i in range(2)
    ]
    await shard.fold([record(i, {**one, "time": NOW + i * HOUR}, NOW + HOUR) for i, one in enumerate(told)])

    async def left() -> list[tuple[str, str]]:
        rows = await pool.fetch(
            "SELECT w.unit, s.metric FROM unit_waiting w JOIN experiment_series s ON s.id = w.series_id "
            "WHERE s.organisation = $1 ORDER BY 1, 2",
            case.organisation,
        )
        return [tuple(row) for row in rows]

    async with pool.acquire() as connection:
        await forget_waiting(connection, NOW + 1)
        kept = [("u0", "c"), *(("u1", metric) for metric in ("c", "k", "r", "v"))]
        assert await left() == kept, "u0's buy is too old to be taken over, but not to be looked back at"
        await forget_waiting(connection, NOW + 2 * DAY + 1)
        assert await left() == [("u1", "c")]
        units = await connection.fetch(
            "SELECT u.unit FROM experiment_units u JOIN experiment_series s ON s.id = u.series_id "
            "WHERE s.organisation = $1",
            case.organisation,
        )
        assert [tuple(u) for u in units] == [("u1",)], "whoever was never exposed and waits for nothing is gone"


async def test_whom_an_exposure_brought_in_is_on_disk_before_anybody_is_told(pool: Pool) -> None:
    """Shards share units: folded again after a crash, another shard may count them, and both would be heard."""
    case = Case()
    shard = await Shard.start(pool, 0, case.plan)

    async def is_flushed(**fields: Any) -> bool:
        """Whether a batch of this one event is on disk when its transaction returns."""
        offset = shard.row.next_offset
        content = event(organisation=case.organisation, event_id=f"e{offset}", time=NOW, **fields)
        written = await connection.fetchval("SELECT pg_current_wal_insert_lsn()")
        await shard.fold([record(offset, content, NOW)])
        return bool(await connection.fetchval("SELECT pg_current_wal_flush_lsn() > $1::pg_lsn", written))

    def exposed(unit: str, variant: str) -> dict[str, Any]:
        properties = {"experiment": "x", "variant": variant}
        return {"event_type": "experiment_exposure", "user_id": unit, "properties": properties}

    async with pool.acquire() as connection:
        for number in range(20):
            for variant in ARMS:  # first the unit is new, then it is conflicted
                assert await is_flushed(**exposed(f"u{number}", variant))
        again = [await is_flushed(**exposed(f"u{number}", ARMS[0])) for number in range(20)]
        values = [await is_flushed(event_type="click", user_id=f"u{number}") for number in range(20)]
    assert not all(again), "what repeats what is known stays fast"
    assert not all(values), "values stay fast"

"""Journeys and funnels by variant, as the API shows them: names, whose they are, what rows cannot say."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from statistics import variance
from typing import Any

import pytest
import pytest_asyncio

from services.aggregator.domain.facts import encode
from services.aggregator.domain.metrics import Definition, parse_definition
from services.aggregator.domain.plan import make_plan
from services.aggregator.experiment_api import variant_items
from services.aggregator.experiment_queries import ExperimentQueries
from services.aggregator.store.facts import settle
from shared.clock import DAY, SECOND
from shared.http import Problem
from shared.messages import Experiment
from shared.postgres import Pool, create_pool
from tests.integration.variants import FUNNEL, JOURNEY, SEGMENT, SPECS, STAGED, Writer, experiments_of
from tests.unit.aggregator.builders import NOW, event, experiment, kind_of


@pytest_asyncio.fixture
async def pool(postgres: str) -> AsyncIterator[Pool]:
    pool = await create_pool(postgres, name="test", schema="aggregator", synchronous_commit=False, size=6)
    await pool.execute("DELETE FROM shards; DELETE FROM id_digests")
    yield pool
    await pool.close()


async def read(
    pool: Pool,
    metric: Definition,
    aggregation: str | None = None,
    segment: str | None = None,
    known: Experiment | None = None,
) -> list[dict[str, Any]]:
    """The API's items of the experiment by user."""
    return await variant_items(
        ExperimentQueries(pool),
        metric.organisation,
        "x",
        metric.key,
        metric,
        time_window=None,
        aggregation=aggregation,
        segment=segment,
        known=known,
    )


async def stored(pool: Pool, metric: Definition, did: Sequence[tuple[str, str, int, dict[str, Any]]]) -> None:
    """What users did, in one batch: user, event, second, and what else the event says."""
    told = [
        event(
            organisation=metric.organisation,
            event_id=f"e{i}",
            event_type=kind,
            user_id=user,
            time=NOW + second * SECOND,
            **{"job_id": f"job of {user}", "context": {"net": "4g"}, **fields},
        )
        for i, (user, kind, second, fields) in enumerate(did)
    ]
    plan = make_plan([metric], experiments_of(metric.organisation))
    await (await Writer.start(pool, 0, plan)).tell(told)


def exposed(user: str, variant: str = "control") -> tuple[str, str, int, dict[str, Any]]:
    return user, "experiment_exposure", 0, {"properties": {"experiment": "x", "variant": variant}}


async def test_readings_by_variant_have_the_names_of_plain_ones(pool: Pool) -> None:
    metric = parse_definition("named", "funnel", 1, FUNNEL)
    await stored(
        pool,
        metric,
        [
            *(exposed(user) for user in ("a", "b", "c", "both")),
            *(exposed(user, "treatment") for user in ("d", "both")),
            *((user, "pageview", 1, {}) for user in ("a", "b", "c", "d", "both", "nobody")),
            ("a", "started", 3, {}),
            ("b", "started", 5, {}),
            ("both", "started", 5, {}),
            ("a", "mapped", 7, {}),
            ("a", "ticket", 8, {"properties": {"id": "size"}}),
            ("b", "ticket", 8, {"properties": {"id": "size"}}),
        ],
    )
    items = await read(pool, metric)
    found = {(i["variant"], i["aggregation_type"], i["part"]): i for i in items if "aggregation_type" in i}
    assert {name for _, name, _ in found} == set(metric.kind.aggregations)
    assert {item["part"] for item in items if "aggregation_type" not in item} == {"mapped", "pageview", "started"}
    control = {(name, part): i["metric_value"] for (variant, name, part), i in found.items() if variant == "control"}
    assert control["conversion:started", None] == 2 / 3
    assert control["avg_time:started", None] == 3_000
    assert found["control", "avg_time:started", None]["variance"] == pytest.approx(variance([2_000, 4_000]))
    assert "variance" not in found["control", "conversion:started", None]
    assert control["avg_time:mapped", None] == 6_000
    assert control["dropped:mapped", None] == 1
    assert control["drop_off", "mapped|size"] == control["drop_off", "started|size"] == 1
    assert found["treatment", "conversion:started", None]["metric_value"] == 0
    assert (await read(pool, metric, "conversion:started"))[0] == {
        "metric_name": "funnel",
        "time_window": "total",
        "window_start": None,
        "window_end": None,
        "experiment": "x",
        "variant": "control",
        "segment": None,
        "part": None,
        "aggregation_type": "conversion:started",
        "metric_value": 2 / 3,
        "count": 3,
        "includes_conflicted": False,
        "conflicted": 1,
    }
    by_net = await read(pool, metric, "drop_off", SEGMENT)
    assert [(i["segment"], i["part"], i["metric_value"]) for i in by_net] == [
        ({SEGMENT: "4g"}, "mapped|size", 1),
        ({SEGMENT: "4g"}, "started|size", 1),
    ]
    with pytest.raises(Problem, match="conversion:mapped"):
        await read(pool, metric, "conversion:nowhere")


async def test_a_journey_of_two_keys_is_with_an_event_for_its_own_starts_variant(pool: Pool) -> None:
    """The row of either key tells; whose the journey is, the journey's own earliest start says."""
    metric = parse_definition("keys", "journey", 1, JOURNEY)
    shared = {"job_id": "job"}
    await stored(
        pool,
        metric,
        [
            exposed("a"),
            exposed("b", "treatment"),
            ("a", "started", 1, shared),
            ("b", "started", 2, shared),
            ("b", "ticket", 3, {"properties": {"id": "t"}}),
        ],
    )
    names = ("started", "with:ticket", "with_rate:ticket", "avg_time:ticket", "matched:ticket")
    found = {name: {i["variant"]: i["metric_value"] for i in await read(pool, metric, name)} for name in names}
    assert [of["control"] for of in found.values()] == [1, 1, 1, 1_000, 1]
    assert [of["treatment"] for of in found.values()] == [0, 0, None, None, 0]
    first = await read(pool, metric, "first_attempts")
    assert {i["variant"]: i["metric_value"] for i in first} == {"control": 1, "treatment": 1}, "of either user"


@pytest.mark.parametrize("key", SPECS)
async def test_units_that_started_after_the_experiments_end_are_passed_over(pool: Pool, key: str) -> None:
    """One that started before counts with all that becomes of it."""
    metric = parse_definition(f"over {key}", key, 1, SPECS[key])
    end = 10
    did: list[tuple[str, str, int, dict[str, Any]]] = [exposed("in time"), exposed("too late")]
    for user, start in (("in time", end), ("too late", end + 1)):
        did += [(user, kind, start, {}) for kind in ("pageview", "started", "mapped")]
        did += [
            (user, "ended", start + 5, {"properties": {"status": "success"}}),
            (user, "ticket", start + 6, {"properties": {"id": user}}),
        ]
    await stored(pool, metric, did)

    async def counts(ended_at: int | None) -> set[int]:
        known = experiment("x", organisation=metric.organisation, segments=(SEGMENT,), ended_at=ended_at)
        items = [*await read(pool, metric, known=known), *await read(pool, metric, segment=SEGMENT, known=known)]
        names = ("quick", "first_attempts", "with:ticket", "reached:mapped", "reached:ended", "count")
        return {item["metric_value"] for item in items if item.get("aggregation_type") in names}

    assert await counts(None) == {2}
    assert await counts(NOW + (end + 1) * SECOND) == {2}
    assert await counts(NOW + (end + 1) * SECOND - 1) == await counts(NOW + end * SECOND) == {1}
    with pytest.raises(Problem, match="nothing is counted"):
        await counts(NOW + end * SECOND - 1)


async def test_what_a_backfill_still_hides_counts_for_no_variant(pool: Pool) -> None:
    metric = parse_definition("hidden", "journey", 1, JOURNEY)
    await stored(
        pool,
        metric,
        [exposed("a"), ("a", "started", 1, {}), ("a", "ticket", 2, {"properties": {"id": "t"}})],
    )
    shown = await read(pool, metric)
    copied = await pool.execute(
        """
        WITH hidden AS (
            INSERT INTO window_series (organisation, metric, version, component, scale, backfill_id, visible)
            SELECT organisation, metric, version, component, scale, 1, false FROM window_series
            WHERE organisation = 'hidden' RETURNING id, component
        )
        INSERT INTO unit_facts (series_id, track, unit, shard, seen, started, user_id, session_id, job_id, state,
                                duration, part_names, parts)
        SELECT hidden.id, track, unit, shard, seen, started, user_id, session_id, job_id, state, duration,
               part_names, parts
        FROM unit_facts f JOIN window_series s ON s.id = f.series_id JOIN hidden USING (component)
        WHERE s.organisation = 'hidden'
        """
    )
    assert int(copied.split()[-1]) >= 3, "of the journey, its user's attempts and tickets"
    assert await read(pool, metric) == shown


@pytest.mark.parametrize("key", SPECS)
async def test_what_rows_are_too_old_to_say_has_no_value(pool: Pool, key: str) -> None:
    metric = parse_definition(f"old {key}", key, 1, SPECS[key])
    await stored(
        pool,
        metric,
        [
            exposed("a"),
            ("a", "pageview", 1, {}),
            ("a", "started", 2, {}),
            ("a", "mapped", 3, {}),
            ("a", "ended", 4, {"properties": {"status": "success"}}),
            ("a", "pageview", 5, {}),
            ("a", "ticket", 5, {"properties": {"id": "t"}}),
        ],
    )

    async def values() -> dict[str, Any]:
        items = [item for item in await read(pool, metric) if "aggregation_type" in item]
        return {item["aggregation_type"]: item["metric_value"] for item in items}

    of_parts = {
        "journey": ("reached:mapped", "avg:mapping", "p50:mapping", "within_rate:active", "with:ticket"),
        "funnel": ("avg_time:ended",),
        "staged": ("avg_time:ended",),
    }[key]
    whole = await values()
    assert None not in [whole[name] for name in of_parts]
    settled = "" if key == "journey" else ", facts = NULL"
    await pool.execute(
        f"UPDATE unit_facts f SET parts = NULL, part_names = NULL{settled} FROM window_series s "
        "WHERE s.id = f.series_id AND s.organisation = $1",
        metric.organisation,
    )
    old = await values()
    assert [old[name] for name in of_parts] == [None] * len(of_parts)
    of_states = ("started", "quick", "first_attempts") if key == "journey" else ("count", "conversion:ended")
    assert [old[name] for name in of_states] == [whole[name] for name in of_states]


async def test_however_many_units_settle_each_statement_takes_a_few_and_skips_what_others_hold(pool: Pool) -> None:
    metric = parse_definition("settling", "staged", 1, STAGED)
    await stored(pool, metric, [(f"u{i}", "pageview", i, {}) for i in range(7)])
    left = (
        "SELECT array_agg(f.unit) FROM unit_facts f JOIN window_series s ON s.id = f.series_id "
        "WHERE s.organisation = 'settling' AND f.facts IS NOT NULL"
    )
    async with pool.acquire() as connection:
        async with pool.acquire() as other, other.transaction():
            await other.execute("SELECT FROM unit_facts WHERE unit = 'u3' FOR UPDATE")
            await settle(connection, NOW + DAY, at_once=2)
        assert await pool.fetchval(left) == ["u3"]
        await settle(connection, NOW + DAY, at_once=2)
    assert await pool.fetchval(left) is None


@pytest.mark.parametrize("seed", range(3))
async def test_times_to_stages_are_in_facts_of_any_shape(pool: Pool, seed: int) -> None:
    """As the database reads them, for funnels whose rows say them no other way."""
    rng = random.Random(seed)
    for _ in range(60):
        stages = [{"name": f"{i}", "event": f"{i}"} for i in range(rng.choice([2, 3, 5, 16, 20]))]
        track = kind_of(**{**STAGED, "stages": stages, "window": 60}).track
        texts = [rng.choice(["", "[]", "ü" * 10, "x" * 31, "y" * 32, "z" * 255, "w" * 400]) for _ in range(4)]
        start = NOW + rng.randrange(5) * SECOND
        most = rng.choice([1, 8, 20, 300])
        later = [
            sorted({NOW + rng.randrange(70 * SECOND) for _ in range(rng.randrange(most))}) for _ in track.slots[1:]
        ]
        facts = ((start, *texts),), *(tuple((time,) for time in times) for times in later)
        moments = [moment for moment in track.moments(facts) if moment is not None]
        found = await pool.fetchval("SELECT stage_times($1, $2)", encode(facts), start + 60 * SECOND)
        assert found == [(moment - start) * 1_000 for moment in moments[1:]]

"""Journeys and funnels by variant: every part of them, against a recount of all events at once."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from services.aggregator.domain.kinds.kind import Part
from services.aggregator.domain.metrics import Definition, parse_definition
from services.aggregator.domain.plan import make_plan
from services.aggregator.domain.states import Histogram
from services.aggregator.experiment_queries import ExperimentQueries
from services.aggregator.maintenance import Maintenance
from services.aggregator.store.facts import OUT_OF_REACH
from shared.clock import DAY, HOUR, MINUTE, SECOND
from shared.messages import Experiment
from shared.postgres import Pool, create_pool
from tests.integration.variants import SEGMENT, SPECS, Writer, experiments_of
from tests.unit.aggregator.builders import NOW, event
from tests.unit.aggregator.reference import Entry, Metric, Outcome, reference
from tests.unit.aggregator.unit_reference import unit_reference

Cells = dict[tuple[str, str | None], dict[Part, tuple[int, int, int, Counter[int]]]]
"""Variant and segment → component and part → n, Σ, Σ² and buckets."""


@pytest_asyncio.fixture
async def pool(postgres: str) -> AsyncIterator[Pool]:
    pool = await create_pool(postgres, name="test", schema="aggregator", synchronous_commit=False, size=6)
    await pool.execute("DELETE FROM shards; DELETE FROM id_digests")
    yield pool
    await pool.close()


def drawn(rng: random.Random, organisation: str, count: int) -> list[dict[str, Any]]:
    """Events of forty users with up to three jobs each, within ten hours, some of which nobody is named in."""
    kinds = ["started", "ended", "mapped", "pageview", "pageview", "ticket", "experiment_exposure"]
    events = []
    for i in range(count):
        user, kind = rng.randrange(40), rng.choice(kinds)
        properties = {
            "status": rng.choice(["success", "failed", "partial"]),
            "plan": rng.choice(["free", "paid"]),
            "id": f't{rng.randrange(3)}"\\',
            "experiment": rng.choice(["x", "x", "s"]),
            "variant": rng.choice(["control", "treatment"]) if user % 10 == 0 else ("control", "treatment")[user % 2],
        }
        events.append(
            event(
                organisation=organisation,
                event_id=f"e{i}",
                event_type=kind,
                user_id=f"u{user:02}",
                session_id=rng.choice([f"s{user:02}", None]),
                job_id=f"j{user:02}-{rng.randrange(3)}",
                time=NOW + rng.randrange(120 if kind == "experiment_exposure" else 1200) * MINUTE // 2,
                context={"net": rng.choice(["4g", "wifi", None])},
                properties=properties,
            )
        )
    return events


def recounted(key: str, events: Sequence[dict[str, Any]], asked: Experiment, path: str | None) -> Cells:
    """Each start says in its group whose it is, and so does all that it counts with."""
    metric = Metric(
        asked.organisation, key, 1, {**SPECS[key], "group_by": ["properties.whose"], "max_groups": 10_000}
    )
    end, entries = max(one["time"] for one in events), []
    for i, one in enumerate(events):
        properties = one.get("properties", {})
        ids = [one.get(f"{kind}_id") or "" for kind in ("user", "session", "job")]
        group = properties.get("plan", "") if "group_by" in SPECS[key] else ""
        whose = "!".join([group, *ids, str(one["time"])])  # of two at one instant the one that comes first counts
        entries.append(Entry(i, end, {**one, "properties": {**properties, "whose": whose}}))
    outcome: Outcome = reference(entries, [metric], [asked])
    assert set(outcome.verdicts) == {"counted"}
    states = unit_reference([outcome], [metric]).states
    found: defaultdict[tuple[str, str | None], dict[Part, Any]] = defaultdict(dict)
    for (series, _, (lead, whose_it_is)), cell in outcome.windows.items():
        _, *ids, time = str(whose_it_is).split("!")
        unit = dict(zip(("user", "session", "job"), ids, strict=True))[asked.unit]
        first, variant, conflicted, context = states.get((asked.key, unit), (2**62, "", False, "{}"))
        if int(time) < first - 5 * SECOND or conflicted:
            continue
        cells = found[variant, None if path is None else json.loads(context).get(path)]
        part: Part = (series[3], str(lead))  # type: ignore[assignment]  # a component's name
        n, total, squares, buckets = cells.get(part, (0, 0, 0, Counter()))
        cells[part] = n + cell.n, total + cell.sum, squares + cell.sum_squares, buckets + cell.buckets
    return dict(found)


async def shown(pool: Pool, metric: Definition, kind: Any, asked: Experiment, path: str | None) -> Cells:
    """What the API makes its readings of."""
    queries = ExperimentQueries(pool).units
    units = await queries.by_variant(asked.organisation, asked.key, metric, kind, path, kind.aggregations, until=None)
    assert not any(of_variant.unknown for of_variant in units.values())
    found: Cells = {}
    for whose, of_variant in units.items():
        cells: dict[Part, Any] = {}
        for part, cell in of_variant.cells.items():
            buckets = Counter(cell.state.counts) if isinstance(cell.state, Histogram) else Counter[int]()
            if cell.n:
                cells[part] = cell.n, cell.sum, cell.sum_squares, buckets
        if cells:
            found[whose] = cells
    return found


def flat(cells: Cells) -> set[tuple[Any, ...]]:
    return {
        (variant, segment or "", *part, n, total, squares, *sorted(buckets.items()))
        for (variant, segment), parts in cells.items()
        for part, (n, total, squares, buckets) in parts.items()
    }


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("key", SPECS)
async def test_every_part_by_variant_is_what_a_recount_of_all_events_says(pool: Pool, key: str, seed: int) -> None:
    rng = random.Random(seed)
    organisation = f"{key}{seed}"
    metric = parse_definition(organisation, key, 1, SPECS[key])
    experiments = experiments_of(organisation)
    plan = make_plan([metric], experiments)
    writers = [await Writer.start(pool, i, plan) for i in range(3)]
    logs: list[list[dict[str, Any]]] = [[], [], []]
    for one in drawn(rng, organisation, 1_200):
        logs[rng.randrange(3)].append(one)
    end = NOW + 601 * MINUTE

    async def run(writer: Writer, log: list[dict[str, Any]]) -> None:
        place = 0
        while place < len(log):
            size = rng.choice([1, 5, 40, 200])
            await writer.tell(log[place : place + size])
            place += size

    await asyncio.gather(*(run(writer, log) for writer, log in zip(writers, logs, strict=True)))
    for i, (writer, log) in enumerate(zip(writers, logs, strict=True)):
        # What others told last may be due in a shard that was done.
        log.append(event(organisation=organisation, event_id=f"end{i}", event_type="nothing", time=end))
        await writer.tell(log[-1:])
    everything = [one for log in logs for one in log]

    async def check() -> None:
        for asked in experiments:
            for path in (None, SEGMENT):
                expected = recounted(key, everything, asked, path)
                found = await shown(pool, metric, metric.kind, asked, path)
                assert sorted(flat(found) - flat(expected)) == sorted(flat(expected) - flat(found)) == []
                assert {variant for variant, _ in expected} == {"control", "treatment"}
                if asked.unit == "user" and path is None:
                    parts = {component for cells in expected.values() for component, _ in cells}
                    assert parts == set(metric.kind.components), "there is something of everything"

    await check()
    if key == "journey":
        return
    later = end + 3 * HOUR + OUT_OF_REACH + DAY
    for i, writer in enumerate(writers):
        clock = event(organisation=organisation, event_id=f"clock{i}", event_type="nothing", time=later)
        await writer.tell([clock])
    await Maintenance(pool, lambda: later).run_once()
    settled = await pool.fetchval(
        "SELECT bool_and(f.facts IS NULL) FROM unit_facts f JOIN window_series s ON s.id = f.series_id "
        "WHERE s.organisation = $1 AND f.started IS NOT NULL",
        organisation,
    )
    assert settled is True
    await check()

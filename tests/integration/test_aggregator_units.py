"""Funnels and journeys on real Kafka and Postgres: shards share units, workers die, and the counts are exact."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from services.aggregator.domain.kinds.streak import Streak
from services.aggregator.domain.metrics import parse_definition
from services.aggregator.queries import Queries
from shared.clock import HOUR, MINUTE, SECOND, system_clock, to_datetime
from shared.messages import Event
from shared.postgres import create_pool
from tests.integration.aggregation import define_metrics, event, publish_events
from tests.programs import aggregator
from tests.waiting import eventually

STAGES = ("started", "uploaded", "analysed", "mapped", "imported")
FUNNEL: dict[str, Any] = {
    "type": "funnel",
    "unit": "session",
    "stages": [{"name": name, "event": f"import_{name}"} for name in STAGES],
    "window": "1h",
    "drop_off": {"event": "import_error", "reason": "properties.code"},
    "group_by": ["properties.plan"],
}
Readings = dict[str, dict[tuple[str, str | None], float | int | None]]


async def readings(postgres: str, organisation: str, key: str, spec: dict[str, Any]) -> Readings:
    """Group's first value → (aggregation, part) → value, over all time."""
    definition = parse_definition(organisation, key, 1, spec)
    kind = definition.kind
    assert not isinstance(kind, Streak)
    pool = await create_pool(postgres, name="test", schema="aggregator")
    try:
        end = to_datetime(system_clock() + 48 * HOUR)
        windows = await Queries(pool).windows(definition, "total", to_datetime(0), end)
        return {
            str(w.group[0]) if w.group else "": {
                (r.aggregation, r.part): r.value for r in kind.read(w.cells, kind.aggregations)
            }
            for w in windows
        }
    finally:
        await pool.close()


def told(organisation: str, event_type: str, session: str, time: int, user: str | None, **properties: Any) -> Event:
    """Placed by the user if there is one, else by the session: a unit's events come through any partition."""
    return event(
        organisation,
        f"{event_type}:{session}:{time}",
        event_type,
        session_id=session,
        user_id=user,
        time=time,
        properties=properties,
    )


async def test_a_killed_worker_leaves_every_funnel_exact(kafka: str, postgres: str, tmp_path: Path) -> None:
    organisation = "funnels"
    await define_metrics(kafka, organisation, {"funnel": FUNNEL})
    rng = random.Random(3)
    begin = system_clock() - 3 * HOUR
    events: list[Event] = []
    reached = {plan: [0] * len(STAGES) for plan in ("free", "paid")}
    reasons: dict[str, dict[str, int]] = {"free": {}, "paid": {}}
    for i in range(3_000):
        session, plan, time = f"s{i}", rng.choice(("free", "paid")), begin + i * 100_000
        far = rng.randrange(1, len(STAGES) + 1)
        for stage in range(far):
            user = rng.choice([None, f"u{rng.randrange(40)}"])
            events.append(told(organisation, f"import_{STAGES[stage]}", session, time, user, plan=plan))
            reached[plan][stage] += 1
            time += rng.randrange(0, 10 * MINUTE)
        if rng.random() < 0.2:  # again, later: tells nothing new
            events.append(told(organisation, "import_started", session, time + 5 * SECOND, None, plan="other"))
        if far < len(STAGES) and rng.random() < 0.5:
            code = rng.choice(["size", "format"])
            events.append(told(organisation, "import_error", session, time + SECOND, f"u{i % 40}", code=code))
            lead = f"{STAGES[far - 1]}|{code}"
            reasons[plan][lead] = reasons[plan].get(lead, 0) + 1
    rng.shuffle(events)

    async def whole() -> bool:
        found = await readings(postgres, organisation, "funnel", FUNNEL)
        return all(
            [found.get(plan, {}).get((f"reached:{name}", None)) for name in STAGES] == counts
            for plan, counts in reached.items()
        )

    async with aggregator(kafka, postgres, tmp_path / "a.log") as worker:
        third = len(events) // 3
        await publish_events(kafka, events[:third])
        await worker.kill()
        await publish_events(kafka, [*events[third : 2 * third], *rng.sample(events[:third], 500)])
        await worker.start()
        publishing = asyncio.create_task(publish_events(kafka, events[2 * third :]))
        await eventually(lambda: _any(postgres, organisation), "the worker folds")
        await worker.kill()
        await publishing
        await worker.start()
        await eventually(whole, "every session is where it belongs", seconds=60)

        async def explained() -> bool:
            found = await readings(postgres, organisation, "funnel", FUNNEL)
            return all(
                {part: value for (name, part), value in found[plan].items() if name == "drop_off"} == counts
                for plan, counts in reasons.items()
            )

        await eventually(explained, "every reason is counted where its session stands")
    found = await readings(postgres, organisation, "funnel", FUNNEL)
    assert set(found) == {"free", "paid"}
    for plan, counts in reached.items():
        assert found[plan]["overall_conversion", None] == pytest.approx(counts[-1] / counts[0])
        assert found[plan]["conversion:uploaded", None] == pytest.approx(counts[1] / counts[0])
        assert found[plan]["dropped:mapped", None] == counts[3] - counts[4]


async def _any(postgres: str, organisation: str) -> bool:
    return bool(await readings(postgres, organisation, "funnel", FUNNEL))

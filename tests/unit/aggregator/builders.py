"""Short ways to events, records, definitions and plans."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import settings

from services.aggregator.domain.batch import Batch, Verdicts, judge, read_batch
from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.metrics import Definition, parse_definition
from services.aggregator.domain.plan import Plan, make_plan
from services.aggregator.domain.records import Record
from services.aggregator.domain.seen import SeenIds
from shared.messages import Experiment, UnitKind, Variant

bounded = settings(max_examples=60, deadline=None)
"""For Hypothesis: enough to find what there is, and no deadline on a machine that others use too."""

NOW = 1_760_000_040_000_000
"""The start of a minute in October 2025."""
ORGANISATION = "acme"


def event(**fields: Any) -> dict[str, Any]:
    """An event's JSON object."""
    return {
        "organisation": ORGANISATION,
        "event_id": "e1",
        "event_type": "click",
        "time": NOW,
        "received_at": NOW,
        **fields,
    }


def decoded(**fields: Any) -> DecodedEvent:
    """The event as the fold sees it."""
    return DecodedEvent(
        **{"organisation": ORGANISATION, "event_id": "e1", "event_type": "click", "time": NOW, **fields}
    )


def record(offset: int, content: dict[str, Any] | bytes | None, broker_time: int = NOW) -> Record:
    value = json.dumps(content).encode() if isinstance(content, dict) else content
    return Record(offset, broker_time, value)


def distinct(events: Sequence[dict[str, Any]]) -> list[Record]:
    """Records of events, each under an id of its own."""
    return [record(i, {**e, "event_id": f"e{i}"}) for i, e in enumerate(events)]


def judged(records: Sequence[Record], watermark: int = 0) -> tuple[Batch, Verdicts]:
    """A batch with nothing seen before."""
    batch = read_batch(records)
    return batch, judge(batch, watermark, SeenIds())


def definition(key: str = "m", version: int = 1, **spec: Any) -> Definition:
    return parse_definition(ORGANISATION, key, version, {"type": "count", **spec})


def kind_of(**spec: Any) -> Any:
    """What the definition's type makes of the rest of the spec."""
    return definition(**spec).kind


def experiment(key: str = "x", *, unit: UnitKind = "user", **fields: Any) -> Experiment:
    values: dict[str, Any] = {
        "organisation": ORGANISATION,
        "id": 1,
        "key": key,
        "name": key,
        "version": 1,
        "status": "running",
        "unit": unit,
        "salt": "s",
        "variants": (
            Variant(id=1, name="control", type="control", buckets=500_000),
            Variant(id=2, name="treatment", type="treatment", buckets=500_000),
        ),
    }
    return Experiment(**{**values, **fields})


def plan_of(*parts: Definition | Experiment) -> Plan:
    return make_plan([p for p in parts if isinstance(p, Definition)], [p for p in parts if isinstance(p, Experiment)])

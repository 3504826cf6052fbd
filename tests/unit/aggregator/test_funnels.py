"""Funnels as they are written and read; how units come through stages is `test_facts`'s part."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from services.aggregator.domain.fold import fold
from services.aggregator.domain.kinds.kind import Cell, Part
from services.aggregator.domain.known import KnownUnits
from shared.clock import DAY, HOUR
from shared.definition_error import DefinitionError
from tests.unit.aggregator.builders import NOW, definition, distinct, event, judged, kind_of, plan_of
from tests.unit.aggregator.unit_table import UnitTable

STAGES = [{"name": name, "event": name} for name in ("upload", "map", "import")]
SPEC: dict[str, Any] = {"type": "funnel", "unit": "session", "stages": STAGES}
EXPLAINED = {**SPEC, "drop_off": {"event": "error", "reason": "properties.code"}}


def test_conversions_are_of_the_stage_before_and_reasons_come_by_how_many_they_stopped() -> None:
    kind = kind_of(**EXPLAINED)
    cells: dict[Part, Cell] = {
        ("stage", "upload"): Cell(n=10),
        ("stage", "map"): Cell(n=8, sum=16_000_000),
        ("stage", "import"): Cell(n=2, sum=9_000_000),
        ("drop_off", "map|size"): Cell(n=1),
        ("drop_off", "map|format"): Cell(n=4),
        ("drop_off", "upload|gone"): Cell(n=0),
    }
    readings = kind.read(cells, kind.aggregations)
    values = {r.aggregation: (r.value, r.count) for r in readings if r.part is None}
    assert values == {
        "count": (10, 10),
        "reached:upload": (10, 10),
        "reached:map": (8, 10),
        "reached:import": (2, 10),
        "conversion:map": (0.8, 10),
        "conversion:import": (0.25, 8),
        "overall_conversion": (0.2, 10),
        "avg_time:map": (2.0, 8),
        "avg_time:import": (4.5, 2),
        "dropped:upload": (2, 10),
        "dropped:map": (6, 8),
    }
    assert [(r.part, r.value, r.count) for r in readings if r.aggregation == "drop_off"] == [
        ("map|format", 4, 10),
        ("map|size", 1, 10),
    ]


def test_where_nobody_came_there_is_no_conversion() -> None:
    kind = kind_of(**SPEC)
    assert "drop_off" not in kind.aggregations
    readings = kind.read({}, ("count", "overall_conversion", "conversion:map", "avg_time:map"))
    assert [r.value for r in readings] == [0, None, None, None]


def test_units_that_went_all_the_way_are_only_counted_from_then_on() -> None:
    plan, known, table = plan_of(definition(**{**EXPLAINED, "group_by": ["properties.g"]})), KnownUnits(), UnitTable()

    turns = count(NOW, 10)

    def tell(*kinds: str, **properties: Any) -> tuple[bool, int, int]:
        """Whether anything goes to the database, and how many events were counted and were invalid."""
        told = [
            event(event_type=k, session_id="s", time=t, properties=properties)
            for k, t in zip(kinds, range(next(turns), NOW + DAY), strict=False)
        ]
        deltas = fold(*judged(distinct(told)), plan, units=known)
        known.learn(table.tell(deltas, 0)[1])
        (counters,) = deltas.counters.values()
        return bool(deltas.facts), counters.counted, counters.invalid

    assert tell("upload", "map", g="a") == (True, 2, 0)
    assert tell("upload", "map", g="b") == (False, 2, 0), "its first entry and its group are known"
    assert tell("nothing", "nothing", "import", "error", code="size") == (True, 2, 0)
    assert tell("nothing", "nothing", "upload", "map", "import", "error") == (False, 4, 0)
    assert tell("nothing", "upload", g="a\x00b") == (False, 0, 1), "invalid, whatever is known"


@pytest.mark.parametrize(("window", "expected"), [(None, DAY), ("4h", 4 * HOUR), (3_600, HOUR), ("30d", 30 * DAY)])
def test_a_window_is_a_span_of_at_most_thirty_days(window: Any, expected: int) -> None:
    assert kind_of(**SPEC, window=window).track.window == expected


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"unit": None}, "spec.unit"),
        ({"stages": None}, "spec.stages"),
        ({"stages": STAGES[:1]}, "spec.stages"),
        ({"stages": [{"name": f"s{i}", "event": "x"} for i in range(21)]}, "spec.stages"),
        ({"stages": [*STAGES, STAGES[0]]}, "spec.stages[3].name"),
        ({"stages": [*STAGES, {"name": "all"}]}, "spec.stages[3]"),
        ({"window": "31d"}, "spec.window"),
        ({"window": 0}, "spec.window"),
        ({"drop_off": {"event": "error"}}, "spec.drop_off.reason"),
        ({"drop_off": {"reason": "properties.code"}}, "spec.drop_off"),
        ({"drop_off": {"event": "error", "reason": "code"}}, "spec.drop_off.reason"),
        ({"drop_off": []}, "spec.drop_off"),
        ({"steps": []}, "spec.steps"),
    ],
    ids=str,
)
def test_a_faulty_funnel_is_refused_at_its_faulty_place(change: dict[str, Any], place: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        definition(**{**SPEC, **change})
    assert refused.value.place == place

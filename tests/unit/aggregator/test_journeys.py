"""What becomes of a unit, whatever order its events come in and whichever shards they come through."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.aggregator.domain.deltas import WindowDelta
from services.aggregator.domain.kinds.journey import AGGREGATIONS, Facts, Outcome, duration_of, merged, outcome_of
from services.aggregator.domain.kinds.kind import Cell, Part
from services.aggregator.domain.moves import Moves
from services.aggregator.domain.plan import WindowSeries
from shared.clock import DAY, HOUR, MINUTE, SECOND
from shared.definition_error import DefinitionError
from tests.unit.aggregator.builders import NOW, bounded, decoded, definition, kind_of

SPEC: dict[str, Any] = {
    "type": "journey",
    "unit": "job",
    "start": {"event": "started"},
    "complete": {"event": "completed"},
}
SERIES = WindowSeries("acme", "j", 1, "outcome", 6)
STEPS = WindowSeries("acme", "j", 1, "step", 6)
T = NOW


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        (Facts(), None),
        (Facts(completed=T, navigated=T, died=T), None),
        (Facts(started=T), Outcome.IN_PROGRESS),
        (Facts(started=T, navigated=T + 1), Outcome.IN_PROGRESS),
        (Facts(started=T, died=T + 1), Outcome.IN_PROGRESS),
        (Facts(started=T, navigated=T + 1, died=T + 2), Outcome.ABANDONED_AFTER_NAVIGATION),
        (Facts(started=T, navigated=T + 1, expired=True), Outcome.ABANDONED_AFTER_NAVIGATION),
        (Facts(started=T, expired=True), Outcome.ABANDONED_TIMEOUT),
        (Facts(started=T, died=T + 1, expired=True), Outcome.ABANDONED_TIMEOUT),
        (Facts(started=T, completed=T + DAY, navigated=T, died=T, expired=True), Outcome.COMPLETED),
    ],
    ids=str,
)
def test_a_journey_ends_in_one_way(facts: Facts, outcome: Outcome | None) -> None:
    assert outcome_of(facts) is outcome


def test_a_completion_before_the_start_took_no_time() -> None:
    assert duration_of(Facts(started=T, completed=T + 1_500)) == 1_500_000, "1.5 ms in units of 10^-6"
    assert duration_of(Facts(started=T, completed=T - 1)) == 0


times = st.none() | st.integers(T, T + 5 * MINUTE)
facts_told = st.builds(
    Facts,
    started=times,
    group=st.sampled_from(['["a"]', '["b"]', "[null]"]),
    completed=times,
    navigated=times,
    died=times,
    steps=st.integers(0, 3),
    expired=st.booleans(),
    seen=st.integers(T, T + MINUTE),
)


@settings(bounded, max_examples=200)
@given(st.lists(facts_told, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_moves_of_any_order_and_any_split_add_up_to_where_the_journey_stands(
    told: list[Facts], rng: random.Random
) -> None:
    told = [f if f.started is not None else Facts(None, "[]", *_rest(f)) for f in told]
    shuffled = rng.sample(told, len(told))
    known = Facts()
    sums: Counter[tuple[Any, ...]] = Counter()
    for facts in [*shuffled, *shuffled[:2]]:  # what is told twice changes nothing
        after = merged(known, facts)
        moves = Moves()  # each transaction, in whichever shard, has its own
        moves.move(SERIES, known, after)
        moves.step(STEPS, ("one", "two"), known, after)
        add(sums, moves.deltas())
        known = after
    once = Moves()
    whole = Facts()
    for facts in told:
        whole = merged(whole, facts)
    once.move(SERIES, Facts(), whole)
    once.step(STEPS, ("one", "two"), Facts(), whole)
    expected: Counter[tuple[Any, ...]] = Counter()
    add(expected, once.deltas())
    assert whole == known
    assert {k: v for k, v in sums.items() if v} == {k: v for k, v in expected.items() if v}
    assert sum(v for (series, _, _, name), v in sums.items() if series == SERIES and name == "n") == (
        0 if outcome_of(known) is None else 1
    )


def _rest(facts: Facts) -> tuple[Any, ...]:
    return (facts.completed, facts.navigated, facts.died, facts.steps, facts.expired, facts.seen)


def add(sums: Counter[tuple[Any, ...]], deltas: list[WindowDelta]) -> None:
    for d in deltas:
        assert (d.min, d.max, d.state) == (None, None, None)
        for name, value in (("n", d.n), ("sum", d.sum), ("squares", d.sum_squares)):
            sums[d.series, d.minute, d.group, name] += value


def test_what_cancels_out_leaves_no_row() -> None:
    moves = Moves()
    moves.move(SERIES, Facts(), Facts(started=T))
    moves.move(SERIES, Facts(started=T), Facts())
    assert moves.deltas() == []


def test_an_earlier_start_moves_the_journey_to_its_own_minute_and_group() -> None:
    moves = Moves()
    late = Facts(started=T + MINUTE, group='["b"]', completed=T + 2 * MINUTE, steps=1)
    moves.move(SERIES, late, merged(late, Facts(started=T, group='["a"]')))
    took = [(2 * MINUTE - MINUTE) * 1000, 2 * MINUTE * 1000]
    assert sorted((d.minute, d.group, d.n, d.sum, d.sum_squares) for d in moves.deltas()) == [
        (T, '["completed","a"]', 1, took[1], took[1] ** 2),
        (T + MINUTE, '["completed","b"]', -1, -took[0], -(took[0] ** 2)),
    ]


def test_an_event_tells_what_its_stages_say() -> None:
    journey = kind_of(
        **{
            **SPEC,
            "filter": {"path": "properties.kind", "value": "csv"},
            "navigate": {"event": "engaged", "filter": {"path": "properties.how", "value": "away"}},
            "dead": {"filter": {"path": "properties.dead", "value": True}},
            "steps": [{"name": "one", "event": "engaged"}, {"name": "two", "event": ["x", "engaged"]}],
        }
    )
    assert journey.candidates.events is None, "dead takes any type"
    assert journey.facts_of(decoded(event_type="started")) == Facts(started=NOW, seen=NOW)
    assert journey.facts_of(decoded(event_type="engaged")) == Facts(steps=0b11, seen=NOW)
    away = decoded(event_type="engaged", properties={"how": "away", "dead": True})
    assert journey.facts_of(away) == Facts(navigated=NOW, died=NOW, steps=0b11, seen=NOW)
    assert journey.facts_of(decoded(event_type="other")) is None
    plain = kind_of(**SPEC)
    assert plain.candidates.events == frozenset({"started", "completed"})


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        (None, 1800 * SECOND),
        (5, 5 * SECOND),
        (0.5, SECOND // 2),
        ("1800s", 1800 * SECOND),
        ("5 s", 5 * SECOND),
        ("30m", 30 * MINUTE),
        ("1.5h", 90 * MINUTE),
        ("24h", DAY),
        (86_400, 24 * HOUR),
    ],
)
def test_a_timeout_is_seconds_or_says_its_unit(timeout: Any, expected: int) -> None:
    journey = kind_of(**SPEC, timeout=timeout)
    assert journey.timeout == expected


def test_a_journey_has_its_aggregations_and_one_for_each_step() -> None:
    found = kind_of(**SPEC, steps=[{"name": "mapped", "event": "m"}], group_by=["properties.g"])
    assert found.aggregations == (*AGGREGATIONS, "reached:mapped")
    assert found.components == ("outcome", "step")
    assert (found.type, found.scale) == ("journey", 6)
    assert kind_of(**SPEC).components == ("outcome",)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"unit": None}, "spec.unit"),
        ({"unit": "event"}, "spec.unit"),
        ({"unit": ["job"]}, "spec.unit"),
        ({"start": None}, "spec.start"),
        ({"complete": None}, "spec.complete"),
        ({"start": {}}, "spec.start"),
        ({"start": "started"}, "spec.start"),
        ({"navigate": {}}, "spec.navigate"),
        ({"dead": {"event": ""}}, "spec.dead.event"),
        ({"dead": {"event": "x", "value": "properties.v"}}, "spec.dead.value"),
        ({"complete": {"filter": {"path": "x"}}}, "spec.complete.filter.path"),
        ({"filter": []}, "spec.filter"),
        ({"steps": {}}, "spec.steps"),
        ({"steps": [{"event": "x"}]}, "spec.steps[0].name"),
        ({"steps": ["x"]}, "spec.steps[0]"),
        ({"steps": [{"name": "a b", "event": "x"}]}, "spec.steps[0].name"),
        ({"steps": [{"name": "a", "event": "x"}, {"name": "a", "event": "y"}]}, "spec.steps[1].name"),
        ({"steps": [{"name": "a"}]}, "spec.steps[0]"),
        ({"steps": [{"name": f"s{i}", "event": "x"} for i in range(31)]}, "spec.steps"),
        ({"timeout": 0}, "spec.timeout"),
        ({"timeout": -1}, "spec.timeout"),
        ({"timeout": True}, "spec.timeout"),
        ({"timeout": "25h"}, "spec.timeout"),
        ({"timeout": "0s"}, "spec.timeout"),
        ({"timeout": "5"}, "spec.timeout"),
        ({"timeout": "5s\n"}, "spec.timeout"),
        ({"timeout": [5]}, "spec.timeout"),
        ({"timeout": 10**400}, "spec.timeout"),
        ({"group_by": ["g"]}, "spec.group_by[0]"),
        ({"aggregations": ["started"]}, "spec.aggregations"),
        ({"value": "properties.v"}, "spec.value"),
    ],
    ids=str,
)
def test_a_faulty_journey_is_refused_at_its_faulty_place(change: dict[str, Any], place: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        definition(**{**SPEC, **change})
    assert refused.value.place == place


def test_rates_are_of_resolved_journeys_and_groups_add_up() -> None:
    found = kind_of(**SPEC, steps=[{"name": "mapped", "event": "m"}])
    cells: dict[Part, Cell] = {
        ("outcome", "completed"): Cell(n=3, sum=6_000_000),
        ("outcome", "abandoned_timeout"): Cell(n=1),
        ("outcome", "abandoned_after_navigation"): Cell(n=2),
        ("outcome", "in_progress"): Cell(n=4),
        ("step", "mapped"): Cell(n=7),
    }
    readings = found.read(cells, found.aggregations)
    assert {r.count for r in readings} == {10}
    assert {r.aggregation: r.value for r in readings} == {
        "started": 10,
        "completed": 3,
        "abandoned_after_navigation": 2,
        "abandoned_timeout": 1,
        "in_progress": 4,
        "abandoned": 3,
        "abandonment_rate": 0.5,
        "completion_rate": 0.5,
        "avg_duration": 2.0,
        "count": 10,
        "reached:mapped": 7,
    }


def test_where_nothing_is_resolved_there_is_no_rate() -> None:
    cells = {("outcome", "in_progress"): Cell(n=4)}
    readings = kind_of(**SPEC).read(cells, ("abandonment_rate", "avg_duration", "completed"))
    assert [r.value for r in readings] == [None, None, 0]

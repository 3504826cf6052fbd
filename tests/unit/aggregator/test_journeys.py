"""What becomes of a unit, as its facts say. That facts do not depend on order is `test_facts`'s part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from services.aggregator.domain.facts import Facts
from services.aggregator.domain.fold import fold
from services.aggregator.domain.kinds.kind import Cell, Part
from services.aggregator.domain.moves import Deadline, Moves, decode_deadline, encode_deadline, moved
from services.aggregator.domain.plan import WindowSeries
from services.aggregator.domain.states import Histogram
from services.aggregator.domain.tracks import Share
from shared.clock import DAY, HOUR, MINUTE, SECOND
from shared.definition_error import DefinitionError
from shared.statistics import sketch
from tests.unit.aggregator.builders import NOW, definition, distinct, event, judged, kind_of, plan_of

SPEC: dict[str, Any] = {
    "type": "journey",
    "unit": "job",
    "start": {"event": "started"},
    "complete": {"event": "completed"},
}
SERIES = WindowSeries("acme", "j", 1, "outcome", 6)
T = NOW
TRACK = kind_of(**SPEC, navigate={"event": "left"}, dead={"event": "died"}).track


def facts(times: Mapping[str, int], group: str = '["a"]') -> Facts:
    """What is known of a unit whose earliest start, completion and so on came at these times."""
    names = ("started", "completed", "navigated", "died")
    entries = [(times[name],) if name in times else None for name in names]
    return tuple(
        () if entry is None else ((*entry, group, "u", "s", "j"),) if i == 0 else (entry,)
        for i, entry in enumerate(entries)
    )


def shares(known: Facts, expired: bool = False, track: Any = TRACK) -> list[Share]:
    found: list[Share] = track.shares(known, track.moments(known), expired)
    return found


@pytest.mark.parametrize(
    ("times", "expired", "outcome"),
    [
        ({}, False, None),
        ({"completed": T, "navigated": T, "died": T}, True, None),
        ({"started": T}, False, "in_progress"),
        ({"started": T, "navigated": T + 1}, False, "in_progress"),
        ({"started": T, "died": T + 1}, False, "in_progress"),
        ({"started": T, "navigated": T + 1, "died": T + 2}, False, "abandoned_after_navigation"),
        ({"started": T, "navigated": T + 1}, True, "abandoned_after_navigation"),
        ({"started": T}, True, "abandoned_timeout"),
        ({"started": T, "died": T + 1}, True, "abandoned_timeout"),
        ({"started": T, "completed": T + DAY, "navigated": T, "died": T}, True, "completed"),
    ],
    ids=str,
)
def test_a_journey_ends_in_one_way(times: dict[str, int], expired: bool, outcome: str | None) -> None:
    expected = [] if outcome is None else [f'["{outcome}","a"]']
    assert [share.group for share in shares(facts(times), expired)] == expected


def test_a_completion_before_the_start_took_no_time() -> None:
    (late,), (early,) = (
        shares(facts({"started": T, "completed": T + 1_500})),
        shares(facts({"started": T, "completed": T - 1})),
    )
    assert late.value == 1_500_000, "1.5 ms in units of 10^-6"
    assert early.value == 0


def test_only_what_time_alone_would_change_has_a_deadline() -> None:
    def deadline(**times: int) -> int | None:
        found: int | None = TRACK.deadline(TRACK.moments(facts(times)))
        return found

    assert deadline(started=T) == deadline(started=T, died=T) == T + 1800 * SECOND
    assert deadline(started=T, completed=T) is None
    assert deadline(started=T, navigated=T, died=T) is None
    assert deadline(completed=T) is None


def test_what_cancels_out_leaves_no_row() -> None:
    moves = Moves()
    moves.move([], shares(facts({"started": T})))
    moves.move(shares(facts({"started": T})), [])
    assert moves.deltas(SERIES) == []


def test_an_earlier_start_moves_the_journey_to_its_own_minute_and_group() -> None:
    moves = Moves()
    late = facts({"started": T + MINUTE, "completed": T + 2 * MINUTE}, '["b"]')
    moves.move(shares(late), shares(facts({"started": T, "completed": T + 2 * MINUTE})))
    took = [(2 * MINUTE - MINUTE) * 1000, 2 * MINUTE * 1000]
    assert sorted((d.minute, d.group, d.n, d.sum, d.sum_squares) for d in moves.deltas(SERIES)) == [
        (T, '["completed","a"]', 1, took[1], took[1] ** 2),
        (T + MINUTE, '["completed","b"]', -1, -took[0], -(took[0] ** 2)),
    ]


def test_what_a_deadline_moves_is_worked_out_before_and_survives_being_stored() -> None:
    known, directly, later = facts({"started": T}), Moves(), Moves()
    directly.move(shares(known), shares(known, expired=True))
    stored = Deadline("abandoned_timeout", moved(shares(known), shares(known, expired=True)))
    found = decode_deadline(encode_deadline(stored))
    back, forth = found.moved
    later.move(back, forth)
    assert found.state == "abandoned_timeout"
    assert decode_deadline(msgspec.msgpack.encode(("lost", ([], [])))) == Deadline("lost", ([], [])), (
        "of the first release"
    )
    assert [share.group for share in (*back, *forth)] == ['["in_progress","a"]', '["abandoned_timeout","a"]']
    assert later.deltas(SERIES) == directly.deltas(SERIES)


def test_percentiles_of_durations_survive_a_change_of_mind() -> None:
    spec = {**SPEC, "steps": [{"name": "seen", "event": "seen"}]}
    kind = kind_of(**spec, durations=[{"name": "d", "to": "seen", "percentiles": ["p50"]}])
    first = ((T + 1000, "[]", "", "", ""),), (), ((T + 5000,),)
    second = ((T, "[]", "", "", ""),), (), ((T + 5000,),)
    moves = Moves()
    moves.move([], shares(first, track=kind.track))
    moves.move(shares(first, track=kind.track), shares(second, track=kind.track))
    (duration,) = (d for d in moves.deltas(SERIES) if d.series.component == "duration")
    assert (duration.n, duration.sum, duration.group) == (1, 5_000_000, '["d"]')
    assert duration.state is not None
    cell = Cell(n=1, sum=5_000_000, state=duration.state)
    readings = kind.read({("outcome", "in_progress"): Cell(n=1), ("duration", "d"): cell}, ("avg:d", "p50:d"))
    assert [r.value for r in readings] == [5.0, pytest.approx(5.0, rel=0.01)]


def test_a_time_of_decades_has_a_percentile_too() -> None:
    moves = Moves()
    moves.move((), [Share("duration", T, '["d"]', 25 * 365 * DAY * 1_000, sketched=True)])
    (delta,) = moves.deltas(SERIES)
    assert isinstance(delta.state, Histogram)
    assert sketch.quantile(delta.state.counts, 0.5) == pytest.approx(sketch.MAX_SCALED, rel=0.02)


def test_an_event_tells_what_its_stages_say() -> None:
    spec = {
        **SPEC,
        "filter": {"path": "properties.kind", "value": "csv"},
        "navigate": {"event": "engaged", "filter": {"path": "properties.how", "value": "away"}},
        "dead": {"filter": {"path": "properties.dead", "value": True}},
        "steps": [{"name": "one", "event": "engaged"}, {"name": "two", "event": ["x", "engaged"]}],
    }

    def told(event_type: str, **properties: Any) -> Any:
        records = distinct([event(event_type=event_type, job_id="j", properties=properties)])
        found = fold(*judged(records), plan_of(definition(**spec))).facts
        return found and [bool(entries) for entries in found[0][1]["j"].facts]

    assert told("started", kind="csv") == [True, False, False, False, False, False]
    assert told("engaged", kind="csv") == [False, False, False, False, True, True]
    assert told("engaged", kind="csv", how="away", dead=True) == [False, False, True, True, True, True]
    assert told("other", kind="csv") == []
    assert told("started", kind="json") == []


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
        ("90d", 90 * DAY),
    ],
)
def test_a_timeout_is_seconds_or_says_its_unit(timeout: Any, expected: int) -> None:
    journey = kind_of(**SPEC, timeout=timeout)
    assert journey.track.timeout == expected


def test_a_journey_has_its_aggregations_and_one_for_each_step() -> None:
    found = kind_of(**SPEC, steps=[{"name": "mapped", "event": "m"}], group_by=["properties.g"])
    assert found.aggregations == (
        "started",
        "completed",
        "abandoned_after_navigation",
        "abandoned_timeout",
        "in_progress",
        "abandoned",
        "abandonment_rate",
        "completion_rate",
        "avg_duration",
        "count",
        "reached:mapped",
    )
    assert found.components == ("outcome", "step")
    assert (found.type, found.scale) == ("journey", 6)
    assert kind_of(**SPEC).components == ("outcome",)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"unit": None}, "spec.unit"),
        ({"unit": "event"}, "spec.unit"),
        ({"unit": ["job"]}, "spec.unit"),
        ({"unit": "properties."}, "spec.unit"),
        ({"outcomes": []}, "spec.outcomes"),
        ({"outcomes": [{"name": "a"}]}, "spec.outcomes[0].when"),
        ({"outcomes": [{"name": "in_progress", "when": {"timeout": True}}]}, "spec.outcomes[0].name"),
        ({"outcomes": [{"name": "a", "when": {"timeout": False}}]}, "spec.outcomes[0].when.timeout"),
        ({"outcomes": [{"name": "a", "when": {"reached": "gone"}}]}, "spec.outcomes[0].when.reached"),
        ({"outcomes": [{"name": "a", "when": {"reached": "complete", "of": "start"}}]}, "spec.outcomes[0].when.of"),
        ({"outcomes": [{"name": "a", "when": {"any": []}}]}, "spec.outcomes[0].when.any"),
        ({"outcomes": [{"name": "a", "when": {"not": {"all": [5]}}}]}, "spec.outcomes[0].when.not.all[0]"),
        ({"durations": [{"name": "d", "to": "start"}]}, "spec.durations[0].to"),
        ({"durations": [{"name": "d", "from": "complete", "to": "complete"}]}, "spec.durations[0].to"),
        ({"durations": [{"name": "d", "to": "complete", "percentiles": ["p0"]}]}, "spec.durations[0].percentiles"),
        ({"within": [{"name": "w", "step": "complete"}]}, "spec.within[0].within"),
        ({"within": [{"name": "w", "step": "complete", "within": "91d"}]}, "spec.within[0].within"),
        ({"within": [{"name": "w", "step": "complete", "within": 5, "at_least": 0}]}, "spec.within[0].at_least"),
        ({"correlate": [{"name": "t", "event": "t", "by": "job", "within": 5}]}, "spec.correlate[0].by"),
        ({"correlate": [{"name": "t", "by": "user", "within": 5}]}, "spec.correlate[0]"),
        ({"correlate": [{"event": "t", "by": "user", "within": 5}]}, "spec.correlate[0].name"),
        ({"correlate": [{"name": "first_attempt", "event": "t", "by": "user"}]}, "spec.correlate[0].name"),
        ({"first_attempt": {"by": "job"}}, "spec.first_attempt.by"),
        ({"first_attempt": {}}, "spec.first_attempt.by"),
        ({"steps": [{"name": "complete", "event": "x"}]}, "spec.steps[0].name"),
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
        ({"timeout": "91d"}, "spec.timeout"),
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

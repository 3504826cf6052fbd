"""Units count by their latest state, however often, in whatever order and through whatever shard it is told."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import msgspec
import pytest

from services.aggregator.domain.deltas import WindowDelta
from services.aggregator.domain.facts import Facts, united
from services.aggregator.domain.fold import fold
from services.aggregator.domain.kinds import related
from services.aggregator.domain.kinds.kind import Cell
from services.aggregator.domain.kinds.related import CorrelatedTrack
from services.aggregator.domain.latest import State
from services.aggregator.domain.metrics import Definition
from shared.clock import DAY, HOUR, MINUTE, to_iso
from shared.definition_error import DefinitionError
from tests.unit.aggregator.builders import NOW, definition, distinct, event, judged, kind_of, plan_of
from tests.unit.aggregator.unit_table import UnitTable

SPEC: dict[str, Any] = {
    "type": "latest",
    "unit": "properties.ticketId",
    "event": ["support_ticket", "support_ticket_created"],
    "begin": "properties.created_at",
    "order": "properties.updated_at",
    "group_by": ["properties.category"],
}
HOURS = {
    **SPEC,
    "value": "seconds_between(properties.created_at, properties.resolved_at) / 3600",
    "aggregations": ["count", "avg", "p50", "share<=2"],
}
BEGIN = NOW - 10 * HOUR


def ticket(id: str, category: str, *, at: int = NOW, **properties: Any) -> dict[str, Any]:
    stated = {"ticketId": id, "category": category, "created_at": to_iso(BEGIN), **properties}
    return event(event_type="support_ticket", time=at, properties={k: v for k, v in stated.items() if v is not None})


def windows(metric: Definition, *batches: Sequence[dict[str, Any]]) -> dict[tuple[str, int, str], tuple[int, int]]:
    """(component, minute, group) → n and Σ of all that the batches leave behind."""
    table = UnitTable()
    added: list[WindowDelta] = []
    for batch in batches:
        if batch:
            added += table.tell(fold(*judged(distinct(batch)), plan_of(metric)), 0)[0]
    n, total = Counter[tuple[str, int, str]](), Counter[tuple[str, int, str]]()
    for delta in added:
        place = (delta.series.component, delta.minute, delta.group)
        n[place] += delta.n
        total[place] += delta.sum
    return {place: (n[place], total[place]) for place in n if n[place]}


def _correlated() -> CorrelatedTrack:
    kind = kind_of(
        type="journey",
        unit="session",
        start={"event": "session"},
        complete={"event": "done"},
        correlate=[
            {
                "name": "t",
                "event": "t",
                "by": "user",
                "within": "5s",
                "distinct": "properties.id",
                "latest": {"order": "properties.at"},
            }
        ],
    )
    (track,) = (track for track in kind.tracks if isinstance(track, CorrelatedTrack))
    return track


COUNT = definition(**SPEC)
OPEN = ticket("t1", "billing", updated_at=to_iso(BEGIN))
MOVED = ticket("t1", "import_issue", updated_at=to_iso(BEGIN + HOUR))


def test_a_later_state_takes_the_earlier_ones_place() -> None:
    assert windows(COUNT, [OPEN]) == {("value", BEGIN, '["billing"]'): (1, 0)}
    assert windows(COUNT, [OPEN], [MOVED]) == {("value", BEGIN, '["import_issue"]'): (1, 0)}
    assert windows(COUNT, [MOVED], [OPEN]) == {("value", BEGIN, '["import_issue"]'): (1, 0)}


def test_a_state_that_is_sent_again_counts_nothing_however_much_later() -> None:
    again = [{**OPEN, "time": NOW + hours * HOUR} for hours in range(5)]
    assert windows(COUNT, [OPEN], *([one] for one in again)) == windows(COUNT, [OPEN])
    assert windows(COUNT, [MOVED, OPEN, *again, MOVED]) == windows(COUNT, [MOVED])


def test_without_a_time_of_its_own_a_unit_begins_with_its_earliest_event_and_the_last_event_is_its_state() -> None:
    first = ticket("t1", "a", at=NOW - HOUR, created_at=None)
    last = ticket("t1", "b", at=NOW, created_at=None)
    expected = {("value", NOW - HOUR, '["b"]'): (1, 0)}
    assert windows(COUNT, [first], [last]) == windows(COUNT, [last], [first]) == expected


def test_the_filter_is_of_the_latest_state() -> None:
    imports = definition(**SPEC, filter={"path": "properties.category", "op": "eq", "value": "import_issue"})
    assert windows(imports, [OPEN]) == {}
    assert windows(imports, [OPEN], [MOVED]) == windows(imports, [MOVED]) != {}
    back = ticket("t1", "billing", updated_at=to_iso(BEGIN + 2 * HOUR))
    assert windows(imports, [MOVED], [back], [OPEN]) == {}


def test_a_value_counts_once_it_is_there_and_changes_with_the_state() -> None:
    hours = definition(**HOURS)
    solved, reopened, solved_again = (
        ticket("t1", "a", updated_at=to_iso(BEGIN + at * HOUR), resolved_at=None if until is None else to_iso(until))
        for at, until in ((1, BEGIN + HOUR), (2, None), (4, BEGIN + 4 * HOUR))
    )
    assert windows(hours, [OPEN]) == {}
    assert windows(hours, [OPEN], [solved])["value", BEGIN, '["a"]'] == (1, 1_000_000)
    assert windows(hours, [OPEN], [solved], [reopened]) == {}
    assert windows(hours, [solved_again], [solved], [reopened], [OPEN]) == {
        ("value", BEGIN, '["a"]'): (1, 4_000_000),
        ("share", BEGIN, '["share<=2","a"]'): (1, 0),
    }


def test_any_order_and_any_batches_leave_the_same_windows_as_a_table_that_is_upserted() -> None:
    rng = random.Random(7)
    hours = definition(**HOURS)
    for _ in range(60):
        told = [
            ticket(
                f"t{rng.randrange(4)}",
                rng.choice("ab"),
                at=NOW + rng.randrange(5) * MINUTE,
                created_at=to_iso(BEGIN + rng.randrange(2) * MINUTE),
                updated_at=to_iso(BEGIN + step * MINUTE),
                resolved_at=rng.choice([None, to_iso(BEGIN + rng.randrange(1, 5) * HOUR)]),
            )
            for step in range(12)
        ]
        rows = {one["properties"]["ticketId"]: one["properties"] for one in told}
        expected = Counter(r["category"] for r in rows.values() if "resolved_at" in r)
        sent = rng.sample([*told, *rng.sample(told, 6)], 18)
        at = sorted(rng.sample(range(1, 18), 3))
        found = windows(hours, *(sent[a:b] for a, b in zip([0, *at], [*at, 18], strict=True)))
        counts = Counter[str]()
        for (component, _, group), (n, _) in found.items():
            if component == "value":
                counts[group] += n
        assert counts == {f'["{category}"]': n for category, n in expected.items()}


@pytest.mark.parametrize(
    "properties",
    [
        {"created_at": "yesterday"},
        {"created_at": to_iso(NOW + 2 * DAY)},
        {"created_at": "1999-01-01T00:00:00Z"},
        {"updated_at": True},
        {"ticketId": None},
        {"resolved_at": "soon"},
    ],
    ids=str,
)
def test_what_is_no_time_or_no_unit_is_invalid(properties: dict[str, Any]) -> None:
    told = ticket("t1", "a")
    told["properties"] |= properties
    deltas = fold(*judged(distinct([told])), plan_of(definition(**HOURS)))
    (counters,) = deltas.counters.values()
    assert (counters.counted, counters.invalid) == (0, 1)


def test_tickets_are_of_a_session_by_their_latest_category_and_by_when_they_began() -> None:
    sessions = definition(
        type="journey",
        unit="session",
        start={"event": "session"},
        outcomes=[{"name": "seen", "when": {"reached": "start"}}],
        correlate=[
            {
                "name": "ticket",
                "event": "support_ticket",
                "filter": {"path": "properties.category", "value": "import_issue"},
                "by": "user",
                "within": "2h",
                "distinct": "properties.ticketId",
                "latest": {"begin": "properties.created_at", "order": "properties.updated_at"},
            }
        ],
    )
    start = event(event_type="session", time=BEGIN - HOUR, user_id="u", session_id="s")
    first, later = ({**one, "user_id": "u"} for one in (OPEN, MOVED))

    def tickets(*batches: Sequence[dict[str, Any]]) -> dict[str, int]:
        found = windows(sessions, *batches)
        return {component: n for (component, _, _), (n, _) in found.items() if component != "outcome"}

    assert tickets([start], [first]) == {}
    assert tickets([start], [first], [later], [later, first]) == {"correlated": 1, "matched": 1}
    assert tickets([later], [start]) == {"correlated": 1, "matched": 1}
    moved_away = {**ticket("t1", "billing", updated_at=to_iso(BEGIN + 3 * HOUR)), "user_id": "u"}
    assert tickets([start, first, later], [moved_away], [later]) == {}


def test_of_too_many_ids_the_same_count_in_whatever_order_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(related, "MAX_KEPT", 2)
    track = _correlated()
    told = [
        (at, id, msgspec.json.encode(State(order, None, None, counts)).decode())
        for at, id, order, counts in ((1, "a", 1, True), (2, "b", 2, True), (3, "0", 9, False), (0, "0", 0, True))
    ]
    left = set()
    for order in permutations(told):
        facts: Facts = ((), ())
        for entry in order:
            facts = track.cut(united(facts, ((), (entry,))), [])
        left.add(facts)
    assert len(left) == 1


def test_readings_are_of_units() -> None:
    kind = kind_of(**HOURS)
    cells = {("value", ""): Cell(n=2, sum=5_000_000), ("share", "share<=2"): Cell(n=2, sum=1_000_000)}
    readings = kind.read(cells, ["count", "avg", "share<=2"])
    assert [(r.aggregation, r.value, r.count) for r in readings] == [
        ("count", 2, 2),
        ("avg", 2.5, 2),
        ("share<=2", 0.5, 2),
    ]
    assert kind.components == ("value", "share")
    assert kind_of(**SPEC).components == ("value",)


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"event": None}, "spec.event"),
        ({"unit": None}, "spec.unit"),
        ({"begin": "properties.a +"}, "spec.begin"),
        ({"aggregations": ["avg"]}, "spec.aggregations"),
        ({"value": "properties.a", "aggregations": ["max"]}, "spec.aggregations"),
        ({"winsorise": {}}, "spec.winsorise"),
    ],
    ids=str,
)
def test_a_faulty_definition_is_refused_with_the_place(spec: dict[str, Any], place: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        definition(**{**SPEC, **spec})
    assert caught.value.place == place


@pytest.mark.parametrize(
    "spec", [{"latest": 1}, {"latest": {"begins": "x"}}, {"latest": {}, "distinct": None}], ids=str
)
def test_so_is_a_correlation_of_states_that_cannot_be_told_apart(spec: dict[str, Any]) -> None:
    correlate = {"name": "t", "event": "t", "by": "user", "within": 5, "distinct": "properties.id", **spec}
    with pytest.raises(DefinitionError):
        definition(
            type="journey", unit="session", start={"event": "s"}, complete={"event": "c"}, correlate=[correlate]
        )

"""The cap on groups: who is first keeps its name, whatever the batches; what is forgotten is not taken for new."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.domain import caps
from services.aggregator.domain.caps import KnownGroups, NewGroups, Scope, other_group, overflowing
from services.aggregator.domain.fold import fold
from services.aggregator.domain.plan import WindowSeries
from shared.clock import DAY, MINUTE
from tests.unit.aggregator.builders import NOW, bounded, definition, distinct, event, judged, plan_of

SERIES = WindowSeries("acme", "m", 1, "value", 6)
Place = tuple[int, str]


def named(places: list[Place], most: int, cuts: list[int]) -> list[str]:
    """What each place counts as, folded in batches that end at the cuts."""
    known, result = KnownGroups(stored=False), []
    edges = sorted({0, len(places), *(c for c in cuts if c < len(places))})
    for begin, end in pairwise(edges):
        new, batch = NewGroups(), places[begin:end]
        over = overflowing(known, new, SERIES, "", most, sorted(set(batch)), lambda batch=batch: iter(batch))  # type: ignore[misc]
        known.add(new)
        result += ["other" if place in over else place[1] for place in batch]
    return result


@bounded
@given(
    st.lists(st.tuples(st.integers(1, 2), st.sampled_from("abcdefg")), max_size=30),
    st.integers(1, 5),
    st.lists(st.integers(1, 29), max_size=6),
)
def test_the_first_groups_of_a_day_keep_their_names_however_the_log_is_cut(
    places: list[Place], most: int, cuts: list[int]
) -> None:
    expected, first = [], dict[int, list[str]]()
    for day, group in places:
        present = first.setdefault(day, [])
        if group not in present and len(present) < most:
            present.append(group)
        expected.append(group if group in present else "other")
    assert named(places, most, cuts) == expected


def test_what_is_stored_must_be_read_before_anything_counts_as_new() -> None:
    known, new = KnownGroups(stored=True), NewGroups()
    assert overflowing(known, new, SERIES, "", 1, [(5, "b")], lambda: [(5, "b")]) == set()
    assert (new.added, new.unread) == ({}, {(SERIES, 5)})
    known.learn(SERIES, 5, [("", "a")])
    again = NewGroups()
    assert overflowing(known, again, SERIES, "", 1, [(5, "b")], lambda: [(5, "b")]) == {(5, "b")}
    assert (again.added, again.unread) == ({}, set())


def test_what_is_long_unused_is_forgotten_whole_and_read_again() -> None:
    known = KnownGroups(stored=True)
    for day in range(1, 40):
        known.learn(SERIES, day, [])
        known.add(NewGroups(added={Scope(SERIES, day, ""): {f"g{i}" for i in range(10_000)}}))
    assert len(known) <= caps.MOST_KEPT
    assert known.of(Scope(SERIES, 1, "")) is None
    latest = known.of(Scope(SERIES, 39, ""))
    assert latest is not None
    assert len(latest) == 10_000


def test_parts_of_a_definition_have_room_each_and_keep_their_names() -> None:
    known, new = KnownGroups(stored=False), NewGroups()
    assert overflowing(known, new, SERIES, "q1", 1, [(5, '["q1","a"]')], list) == set()
    assert overflowing(known, new, SERIES, "q2", 1, [(5, '["q2","b"]')], list) == set()
    assert other_group(3, "q1") == '["q1","other","other"]'
    assert other_group(2, "") == '["other","other"]'


def test_a_streak_keeps_its_name_from_day_to_day() -> None:
    metric = definition(
        type="streak",
        failure={"path": "properties.v", "op": "eq", "value": 1},
        group_by=["properties.g"],
        max_groups=1,
    )
    known, plan = KnownGroups(stored=False), plan_of(metric)
    found = []
    for day, group in ((0, "a"), (1, "b"), (1, "a")):
        events = [event(time=NOW + day * DAY, properties={"g": group, "v": 1})]
        batch, verdicts = judged(distinct(events), NOW)
        deltas = fold(batch, verdicts, plan, known)
        known.add(deltas.groups)
        found += [list(runs) for _, runs in deltas.streaks]
    assert found == [['["a"]'], ['["other"]'], ['["a"]']]


def test_a_group_called_other_takes_no_room() -> None:
    metric = definition(group_by=["properties.g"], max_groups=1)
    batch, verdicts = judged(distinct([event(properties={"g": g}) for g in ("other", "a", "b", "other")]))
    deltas = fold(batch, verdicts, plan_of(metric))
    assert {d.group: d.n for d in deltas.windows} == {'["a"]': 1, '["other"]': 3}
    (counters,) = deltas.counters.values()
    assert (counters.counted, counters.overflow) == (4, 1)


def test_ever_new_groups_leave_memory_as_it_is() -> None:
    metric = definition(group_by=["properties.g"])
    known, plan = KnownGroups(stored=False), plan_of(metric)

    def tell(first: int) -> int:
        events = [event(time=NOW + MINUTE, properties={"g": f"group {first + i}"}) for i in range(2_000)]
        batch, verdicts = judged(distinct(events), NOW)
        deltas = fold(batch, verdicts, plan, known)
        known.add(deltas.groups)
        return len(deltas.windows)

    assert tell(0) == 1_001
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        assert [tell(2_000 * i) for i in range(1, 20)] == [1] * 19
        assert tracemalloc.get_traced_memory()[0] - before < 500_000
    finally:
        tracemalloc.stop()
    assert len(known) == 1_000

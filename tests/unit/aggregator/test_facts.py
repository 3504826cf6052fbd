"""What is known of a unit is a function of its events alone, whatever their order, split, shard or repetition."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.aggregator.domain.facts import EVER, Entry, Facts, decode, encode, united
from services.aggregator.domain.kinds.funnel import FunnelTrack
from services.aggregator.domain.kinds.journey_track import JourneyTrack
from services.aggregator.domain.known import KnownUnits, Remembered, fresh
from services.aggregator.domain.latest import State
from services.aggregator.domain.tracks import Column, Known, Share, StateColumn, Track, known
from tests.unit.aggregator.builders import bounded, kind_of

FUNNEL = kind_of(
    type="funnel",
    unit="user",
    stages=[{"name": name, "event": name} for name in ("one", "two", "three", "four")],
    window=20,
    drop_off={"event": "error", "reason": "properties.code"},
).track
JOURNEY = kind_of(
    type="journey",
    unit="job",
    start={"event": "start"},
    complete={"event": "complete"},
    navigate={"event": "navigate"},
    dead={"event": "dead"},
    steps=[{"name": "import", "event": "import"}, {"name": "visit", "event": "visit"}],
    timeout=30,
    outcomes=[
        {"name": "quick", "when": {"reached": "visit", "within": 5, "of": "import"}},
        {"name": "completed", "when": {"reached": "complete"}},
        {"name": "lost", "when": {"all": [{"not": {"reached": "navigate"}}, {"timeout": True}]}},
        {"name": "abandoned", "when": {"any": [{"reached": "dead"}, {"timeout": True}]}},
    ],
    durations=[
        {"name": "to_value", "from": "import", "to": "visit", "percentiles": ["p50"]},
        {"name": "to_import", "to": "import"},
    ],
    within=[
        {"name": "active", "step": "visit", "of": "import", "within": 10},
        {"name": "engaged", "step": "visit", "of": "import", "within": 15, "at_least": 3},
        {"name": "again", "step": "visit", "of": "visit", "within": 8},
    ],
    correlate=[
        {"name": "ticket", "event": "ticket", "by": "user", "within": 10, "distinct": "properties.id"},
        {"name": "busy", "event": "view", "by": "user", "within": 20, "at_least": 3},
        {"name": "open", "event": "ticket", "by": "user", "within": 9, "distinct": "properties.id", "latest": {}},
    ],
    first_attempt={"by": "user"},
)
LATEST = kind_of(
    type="latest", unit="user", event="ticket", value="properties.hours", aggregations=["avg", "p50", "share<=2"]
).track
TRACKS: dict[str, Track] = {
    "funnel": FUNNEL,
    "journey": JOURNEY.track,
    "ticket": JOURNEY.correlates[0],
    "busy": JOURNEY.correlates[1],
    "open": JOURNEY.correlates[2],
    "first attempt": JOURNEY.first_attempt,
    "latest": LATEST,
}
SECOND = 1_000_000
TEXTS = ("a", "b", "c")
STATES = {
    "a": State(5 * SECOND, 2 * SECOND, 1_000_000, counts=True),
    "b": State(20 * SECOND, None, None, counts=True),
    "c": State(20 * SECOND, 7 * SECOND, 3_000_000, counts=False),
}


def entry_of(track: Track, slot: int, time: int, texts: Sequence[str]) -> Entry:
    """As many texts as the slot's columns ask for; the group is JSON."""
    columns = track.slots[slot].columns
    return (time * SECOND, *(_said(column, text) for column, text in zip(columns, texts, strict=False)))


def _said(column: object, text: str) -> str:
    if isinstance(column, StateColumn):
        return json.dumps(STATES[text])
    return f'["{text}"]' if column is Column.GROUP else text


@st.composite
def events(draw: st.DrawFn, track: Track) -> list[tuple[int, Entry]]:
    """Slots and entries, on a grid so coarse that instants meet."""
    found = []
    for _ in range(draw(st.integers(1, 14))):
        slot = draw(st.integers(0, len(track.slots) - 1))
        texts = [draw(st.sampled_from(TEXTS)) for _ in range(6)]
        found.append((slot, entry_of(track, slot, draw(st.integers(1, 40)), texts)))
    return found


def told(track: Track, of: Sequence[tuple[int, Entry]]) -> Facts:
    return tuple(tuple(sorted({e for s, e in of if s == slot})) for slot in range(len(track.slots)))


def everything_told(track: Track, of: Sequence[tuple[int, Entry]]) -> Facts:
    """Uncut, but where cutting is what tells units apart."""
    facts = told(track, of)
    return facts if track.name == "" else known(track, facts).facts


def both(track: Track, a: Facts, b: Facts) -> Facts:
    return known(track, united(a, b)).facts


def shares(track: Track, facts: Facts, expired: bool = False) -> list[Share]:
    return track.shares(facts, track.moments(facts), expired)


cases = st.sampled_from(sorted(TRACKS)).flatmap(
    lambda name: st.tuples(st.just(TRACKS[name]), events(TRACKS[name]), st.randoms(use_true_random=False))
)


@settings(bounded, max_examples=400)
@given(cases)
def test_any_order_any_split_any_tree_and_any_repetition_leave_the_same_facts(
    case: tuple[Track, list[tuple[int, Entry]], random.Random],
) -> None:
    track, all_events, rng = case
    whole = known(track, told(track, all_events))
    parts = [[e] for e in rng.sample(all_events, len(all_events))]
    parts += rng.sample(parts, rng.randrange(len(parts) + 1))
    while len(parts) > 1 and rng.random() < 0.5:
        parts.append(parts.pop(rng.randrange(len(parts))) + parts.pop(rng.randrange(len(parts))))
    leaves = [known(track, told(track, part)).facts for part in parts]
    while len(leaves) > 1:
        a, b = leaves.pop(rng.randrange(len(leaves))), leaves.pop(rng.randrange(len(leaves)))
        leaves.append(both(track, a, b))
    assert leaves == [whole.facts]
    everything = everything_told(track, all_events)
    for expired in (False, True):
        assert shares(track, whole.facts, expired) == shares(track, everything, expired), "what was cut is no loss"
    assert both(track, whole.facts, whole.facts) == whole.facts
    assert decode(encode(whole.facts)) == whole.facts


@settings(bounded, max_examples=400)
@given(cases)
def test_what_is_known_to_tell_nothing_new_tells_nothing_new_later(
    case: tuple[Track, list[tuple[int, Entry]], random.Random],
) -> None:
    """A shard remembers the limits of an earlier state and leaves out events beyond them."""
    track, all_events, rng = case
    now: Facts = ((),) * len(track.slots)
    remembered: Known | None = None
    for slot, entry in all_events:
        if remembered is None or entry[0] <= remembered.limits[slot]:
            now = both(track, now, told(track, [(slot, entry)]))
        if now[0] and rng.random() < 0.5:
            remembered = known(track, now)
    whole = everything_told(track, all_events)
    assert shares(track, now) == shares(track, whole)
    assert shares(track, now, True) == shares(track, whole, True)


@settings(bounded, max_examples=400)
@given(cases, st.integers(1, 40))
def test_forgetting_what_only_events_that_come_no_more_could_use_changes_nothing(
    case: tuple[Track, list[tuple[int, Entry]], random.Random], second: int
) -> None:
    track, all_events, _ = case
    before = second * SECOND
    early = [e for e in all_events if e[1][0] < before]
    later = [e for e in all_events if e[1][0] >= before]
    half = known(track, told(track, [*early, *later[: len(later) // 2]]))
    kept = track.forget(half.facts, half.moments, before)
    for expired in (False, True):
        assert shares(track, kept, expired) == shares(track, half.facts, expired)
    rest = told(track, later[len(later) // 2 :])
    assert shares(track, both(track, kept, rest)) == shares(track, both(track, half.facts, rest))


@settings(bounded, max_examples=300)
@given(events(FUNNEL), st.randoms(use_true_random=False))
def test_beyond_the_bound_of_a_slot_the_earliest_count_in_any_order(
    all_events: list[tuple[int, Entry]], rng: random.Random
) -> None:
    track = replace(FUNNEL, course=replace(FUNNEL.course, max_kept=2))
    all_events = [(slot, entry) for slot, entry in all_events if slot < 4]
    counted: list[tuple[int, Entry]] = []
    for slot in range(4):
        entries = sorted({e for s, e in all_events if s == slot})
        counted += [(slot, e) for e in entries[: 2 if slot else None]]
    expected = shares(FUNNEL, told(FUNNEL, counted))
    shuffled = rng.sample(all_events, len(all_events))
    singles = [known(track, told(track, [e])).facts for e in shuffled]
    empty: Facts = ((),) * len(track.slots)
    assert shares(track, reduce(lambda a, b: both(track, a, b), singles, empty)) == expected


def stand(*entries: tuple[str, int]) -> dict[str, int]:
    """Reached stages of the funnel → seconds since the first, of (stage or error, second)."""
    names = [*FUNNEL.names, "error"]
    facts = told(FUNNEL, [(names.index(n), entry_of(FUNNEL, names.index(n), t, ("x",) * 5)) for n, t in entries])
    return {s.group: (s.value or 0) // 10**9 for s in shares(FUNNEL, facts)}


def test_stages_count_in_their_order_within_the_window() -> None:
    assert stand(("two", 5), ("three", 6)) == {}, "nothing counts before the first stage"
    assert stand(("one", 5), ("two", 4)) == {'["one","x"]': 0}, "the second stage came too early"
    assert stand(("one", 5), ("two", 4), ("two", 9)) == {'["one","x"]': 0, '["two","x"]': 4}
    assert list(stand(("one", 5), ("two", 5), ("three", 5))) == ['["one","x"]', '["two","x"]', '["three","x"]']
    assert list(stand(("one", 5), ("two", 25))) == ['["one","x"]', '["two","x"]'], "the window's end belongs to it"
    assert list(stand(("one", 5), ("two", 26))) == ['["one","x"]']
    assert list(stand(("one", 5), ("one", 1), ("two", 22))) == ['["one","x"]'], "a unit's first entry counts"


def test_the_first_reason_after_the_last_stage_reached_explains_the_drop_off() -> None:
    assert list(stand(("one", 5), ("error", 4))) == ['["one","x"]'], "before the first stage"
    assert list(stand(("one", 5), ("error", 6))) == ['["one","x"]', '["one|x","x"]']
    assert list(stand(("one", 5), ("error", 6), ("two", 7))) == ['["one","x"]', '["two","x"]'], "it went on"
    assert list(stand(("one", 5), ("error", 26))) == ['["one","x"]'], "the window is over"
    whole = ("one", 5), ("two", 6), ("three", 7), ("four", 8)
    assert list(stand(*whole, ("error", 9))) == list(stand(*whole)), "nobody dropped off"


def test_a_unit_that_went_all_the_way_keeps_nothing_but_its_moments() -> None:
    entries: list[Any] = [(slot, entry_of(FUNNEL, slot, 5 + slot, ("x",) * 5)) for slot in range(4)]
    again = [(slot, entry_of(FUNNEL, slot, t, ("x",) * 5)) for slot in range(5) for t in range(20, 24)]
    now = known(FUNNEL, told(FUNNEL, [*entries, *again]))
    assert [len(slot) for slot in now.facts] == [1, 1, 1, 1, 0]
    assert list(now.limits) == [5 * SECOND, 6 * SECOND, 7 * SECOND, 8 * SECOND, 8 * SECOND]


def test_busy_units_stay_known_and_others_are_forgotten() -> None:
    units = KnownUnits(capacity=10)
    key: Any = ("series", "")
    for turn in range(20):
        found, limits, _ = units.find(key, ["busy"])
        assert turn == 0 or limits[found[0]].tolist() == [1, EVER]
        others = {f"u{turn}-{i}": Remembered((2, 3)) for i in range(4)}
        units.learn([(key, {"busy": Remembered((1, EVER)), **others})])
        assert len(units) <= 30
    assert units.find(key, ["u0-0"])[0].tolist() == [-1]
    found, limits, _ = units.find(key, ["u19-0", "new"])
    assert fresh(found, limits, 1, limits[[0, 0], 1] * 0 + 3).tolist() == [True, True]
    assert fresh(found, limits, 1, limits[[0, 0], 1] * 0 + 4).tolist() == [False, True]
    units.clear()
    assert len(units) == 0


@pytest.mark.parametrize("name", sorted(TRACKS))
def test_a_row_says_where_its_unit_came_from(name: str) -> None:
    track = TRACKS[name]
    state = json.dumps(State(1, None, None, counts=True))
    texts = [
        state if isinstance(c, StateColumn) else '["g"]' if c is Column.GROUP else str(getattr(c, "value", "sub"))
        for c in track.slots[0].columns
    ]
    facts: Facts = (((7 * SECOND, *texts),), *((),) * (len(track.slots) - 1))
    summary = track.summary(facts, track.moments(facts), False)
    assert (summary.started, summary.origin) == (7 * SECOND, ('["g"]', "user", "session", "job"))


@settings(bounded, max_examples=300)
@given(cases, st.booleans())
def test_a_row_keeps_what_its_unit_gives_beside_its_state(
    case: tuple[Track, list[tuple[int, Entry]], random.Random], expired: bool
) -> None:
    track, all_events, _ = case
    now = known(track, told(track, all_events))
    parts, counted = track.parts(now.facts, now.moments), Counter[Any]()
    for share in track.shares(now.facts, now.moments, expired):
        lead, *_ = json.loads(share.group)
        counted[share.component, lead, share.value or 0] += 1
    found = Counter[Any]()
    if not isinstance(track, JourneyTrack | FunnelTrack):
        for name, value in zip(parts.names, parts.values, strict=True) if parts else ():
            assert name in TEXTS
            component = "correlated" if (value or 0) >= 0 else "matched"
            found[component, track.name, max(0, value or 0)] += max(1, -(value or 0))
        assert parts is None or found == counted
        return
    assert parts is not None
    state = track.summary(now.facts, now.moments, expired).state
    if state is None:
        assert not counted
        return
    for (component, lead), value in zip(track.kept, parts.values, strict=isinstance(track, JourneyTrack)):
        found[component, lead, value] += value is not None
    for reason in parts.names:
        found["drop_off", f"{state}|{reason}", 0] += 1
    main = ("stage", "one") if isinstance(track, FunnelTrack) else ("outcome", state)
    assert +found == Counter({place: n for place, n in counted.items() if place[:2] != main})


def test_a_funnels_row_without_reasons_keeps_its_facts_only() -> None:
    track = kind_of(type="funnel", unit="user", stages=[{"name": n, "event": n} for n in ("one", "two")]).track
    facts: Facts = (((SECOND, "[]", "u", "", ""),), ((2 * SECOND,),))
    assert track.parts(facts, track.moments(facts)) is None

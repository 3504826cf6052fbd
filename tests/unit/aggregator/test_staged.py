"""What is said of many units of a funnel at once is what is said of each of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.aggregator.domain.facts import EVER, Entry, Facts, encode, united
from services.aggregator.domain.kinds.funnel import FunnelTrack
from services.aggregator.domain.known import KnownUnits, ManyRemembered
from services.aggregator.domain.moves import Moves
from services.aggregator.domain.plan import WindowSeries
from services.aggregator.domain.staged import (
    UNKNOWN,
    StagedNews,
    cells,
    encoded,
    remembered,
    staged,
    staged_news,
    stand,
)
from services.aggregator.domain.tracks import known
from shared.clock import SECOND
from tests.unit.aggregator.builders import bounded, kind_of

SPEC = {"type": "funnel", "unit": "user", "window": 20}
STAGES = [{"name": name, "event": name} for name in ("one", "two", "three")]
TRACK: FunnelTrack = kind_of(**SPEC, stages=STAGES).track
SERIES = WindowSeries("acme", "m", 1, "stage", 6)
KEY = (SERIES, "")
NAMES = ("a", "b", "c", "d")
WRITER = 7

events = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(1, 90), st.sampled_from("xy")),
    min_size=1,
    max_size=60,
)
"""Unit, stage, second, group."""


def at(second: int) -> int:
    """A time in µs of more than 32 bits."""
    return (1_000_000 + second) * SECOND


def entry_of(stage: int, second: int, group: str) -> Entry:
    return (at(second),) if stage else (at(second), f'["{group}"]', group, "", "")


def news_of(of: list[tuple[int, int, int, str]], units: KnownUnits) -> StagedNews:
    parts = []
    starts: dict[int, Entry] = {}
    for stage in range(3):
        found = [(unit, at(second)) for unit, s, second, _ in of if s == stage]
        columns = np.array(found, dtype=np.int64).reshape(-1, 2)
        parts.append((columns[:, 0], columns[:, 1]))
    for unit, stage, second, group in of:
        if not stage:
            entry = entry_of(stage, second, group)
            starts[unit] = min(starts.get(unit, entry), entry)
    return staged_news(TRACK, NAMES, parts, starts, units.find(KEY, NAMES))


@settings(bounded, max_examples=400)
@given(st.lists(events, min_size=1, max_size=5))
def test_units_at_once_are_what_they_are_one_by_one(batches: list[list[tuple[int, int, int, str]]]) -> None:
    units = KnownUnits()
    facts: dict[str, Facts] = dict.fromkeys(NAMES, ((), (), ()))
    for batch in batches:
        news = news_of(batch, units)
        assert list(news) == sorted({NAMES[unit] for unit, *_ in batch})
        standing, one_by_one, at_once = stand(news), Moves(), Moves()
        done: list[int] = []
        for place, (name, told) in enumerate(news.items()):
            before, now = known(TRACK, facts[name]), known(TRACK, united(facts[name], told.facts))
            assert told.seen == max(at(second) for unit, _, second, _ in batch if NAMES[unit] == name)
            facts[name] = now.facts
            if standing.open[place]:
                assert max(map(len, (*told.facts[1:], *now.facts[1:], *before.facts[1:]))) > 8
                units.learn([(KEY, {name: remembered(now.facts, now.limits, WRITER)})])
                continue
            done.append(place)
            assert standing.changed[place] == (now.facts != before.facts)
            assert standing.limits[place].tolist() == now.limits
            assert [None if t == EVER else t for t in standing.moments[place].tolist()] == list(now.moments)
            shares = [TRACK.shares(k.facts, k.moments, False) for k in (before, now)]
            assert standing.moved[place] or shares[0] == shares[1]
            one_by_one.move(*shares)
        chosen = np.array(done, dtype=np.int64)
        assert encoded(standing, chosen) == [encode(facts[news.units[place]]) for place in done]
        for sign, moments, origins in ((-1, standing.stood, news.origins), (1, standing.moments, standing.origins)):
            for minute, group, n, total, squares in cells(TRACK, moments[chosen], [origins[place] for place in done]):
                at_once.add("stage", minute, group, sign * n, sign * total, sign * squares)
        assert sorted(map(repr, at_once.deltas(SERIES))) == sorted(map(repr, one_by_one.deltas(SERIES)))
        rows = standing.rows(chosen, WRITER)
        for place, row in zip(done, rows, strict=True):
            alone = remembered(facts[news.units[place]], standing.limits[place].tolist(), WRITER)
            assert row.tolist() == list(alone.row)
            assert standing.origins[place] == alone.origin
        names = [news.units[place] for place in done]
        units.learn([(KEY, ManyRemembered(names, rows, [standing.origins[place] for place in done]))])


def test_a_unit_with_more_moments_than_a_row_holds_is_left_to_be_read() -> None:
    units = KnownUnits()
    crowd = [(0, 1, second, "x") for second in range(1, 10)]
    assert stand(news_of(crowd, units)).open.tolist() == [True]
    assert stand(news_of(crowd[:8], units)).open.tolist() == [False]
    facts: Facts = ((), tuple((at(second),) for second in range(1, 10)), ())
    row = remembered(facts, [EVER] * 3, WRITER)
    assert row.row[3] == UNKNOWN
    units.learn([(KEY, {"b": row})])
    assert stand(news_of([(0, 2, 5, "x"), (1, 2, 5, "x")], units)).open.tolist() == [False, True]


def test_a_unit_with_a_moment_of_1970_is_left_to_be_read() -> None:
    parts = [(np.array([], dtype=np.int64),) * 2, (np.array([0, 1]), np.array([(1 << 32) - 1, 1 << 32]))]
    news = staged_news(TRACK, NAMES, [*parts, parts[0]], {}, KnownUnits().find(KEY, NAMES))
    assert stand(news).open[[news.units.index(name) for name in NAMES[:2]]].tolist() == [True, False]


def test_funnels_with_reasons_and_long_ones_are_told_unit_by_unit() -> None:
    explained = kind_of(**SPEC, stages=STAGES, drop_off={"event": "error", "reason": "properties.code"})
    long = kind_of(**SPEC, stages=[{"name": f"s{i}", "event": f"e{i}"} for i in range(9)])
    assert [staged(kind.track) for kind in (explained, long)] == [None, None]
    assert staged(TRACK) is TRACK

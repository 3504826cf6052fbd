"""The truth is what a hand would count, agrees with the real fold, and every deviation from it is told."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest

from bench.aggregator.truth import Place, Result, Total, Truth, differences, group
from bench.aggregator.workload import AMOUNTS, COUNTS, DURATIONS, METRICS, ORGANISATION, SPAN, Drawn, as_event, draw
from services.aggregator.domain.batch import Record, judge, read_batch
from services.aggregator.domain.fold import fold
from services.aggregator.domain.metrics import parse_definition
from services.aggregator.domain.plan import make_plan
from services.aggregator.domain.seen import SeenIds
from shared.statistics import sketch
from shared.topics import EVENTS

START = 1_790_000_040_000_000
"""A whole minute."""
MINUTE = 60_000_000
N = 5_000


def purchase(number: int, *, time: int, cents: int, milliseconds: int) -> Drawn:
    return Drawn(number, time, 5, 0, 8, cents, milliseconds, 0, number)


def search(number: int, *, time: int, milliseconds: int) -> Drawn:
    return Drawn(number, time, 2, 1, 9, None, milliseconds, 0, number)


def test_events_count_in_their_own_minute_and_group() -> None:
    truth = Truth()
    truth.add(purchase(0, time=START, cents=250, milliseconds=30))
    truth.add(purchase(1, time=START + MINUTE - 1, cents=100, milliseconds=50))
    truth.add(search(2, time=START + MINUTE, milliseconds=7))

    assert truth.totals() == {
        (COUNTS, START, '["purchase","control"]'): Total(2),
        (COUNTS, START + MINUTE, '["search","treatment"]'): Total(1),
        (AMOUNTS, START, '["control"]'): Total(2, 3_500_000, 1_000_000, 2_500_000),
        (DURATIONS, START, '["purchase"]'): Total(2, 80_000_000, 30_000_000, 50_000_000),
        (DURATIONS, START + MINUTE, '["search"]'): Total(1, 7_000_000, 7_000_000, 7_000_000),
    }
    assert truth.matching() == {COUNTS: 3, AMOUNTS: 2, DURATIONS: 3}


@pytest.mark.parametrize(("n", "rank"), [(1, 1), (19, 19), (20, 19), (21, 20), (100, 95), (101, 96)])
def test_the_percentile_is_the_value_at_its_rank(n: int, rank: int) -> None:
    truth = Truth()
    for i in range(n):
        truth.add(search(i, time=START + (i % 3) * MINUTE, milliseconds=n - i))

    assert truth.percentile_95() == {'["search"]': rank * 1_000_000}


def test_the_real_fold_of_the_workload_is_the_truth() -> None:
    truth, result = folded()
    assert list(differences(truth, result)) == []


def test_a_lost_event_is_told() -> None:
    truth, result = folded()
    truth.add(search(N, time=START, milliseconds=1))

    told = "\n".join(differences(truth, result))
    assert f"('{COUNTS}', {START}, '[\"search\",\"treatment\"]')" in told
    assert f"{COUNTS}: {N + 1} events match, {N} were counted" in told


def test_a_window_that_should_not_be_is_told() -> None:
    truth, result = folded()
    extra: Place = (COUNTS, START - MINUTE, group("search", "control"))

    (told,) = differences(truth, replace(result, totals={**result.totals, extra: Total(1)}))
    assert told == f"{extra}: expected None, found {Total(1)}"


def test_a_sum_off_by_one_unit_is_told() -> None:
    truth, result = folded()
    place = next(p for p in result.totals if p[0] == AMOUNTS)
    off = replace(result.totals[place], sum=result.totals[place].sum + 1)

    assert len(list(differences(truth, replace(result, totals={**result.totals, place: off})))) == 1


@pytest.mark.parametrize("word", ["late", "duplicate", "invalid"])
def test_events_that_were_dropped_are_told(word: str) -> None:
    truth, result = folded()
    dropped = {
        "late": replace(result, late=3),
        "duplicate": replace(result, duplicates=3),
        "invalid": replace(result, invalid=3),
    }
    assert list(differences(truth, dropped[word])) == [f"3 events were taken for {word}, there are none"]


def test_a_percentile_more_than_one_percent_off_is_told() -> None:
    truth, result = folded()
    exact = truth.percentile_95()
    near = {place: value * 1.009 for place, value in exact.items()}
    far = {place: value * 1.011 for place, value in exact.items()}

    assert not list(differences(truth, replace(result, percentile_95=near)))
    assert len(list(differences(truth, replace(result, percentile_95=far)))) == len(exact)
    assert len(list(differences(truth, replace(result, percentile_95={})))) == len(exact)


def folded() -> tuple[Truth, Result]:
    """The truth about N events, and what the aggregator's own domain code makes of them."""
    truth, seen = Truth(), SeenIds()
    definitions = [parse_definition(ORGANISATION, key, 1, spec) for key, spec in METRICS.items()]
    plan = make_plan(definitions, [])
    records = []
    for drawn in draw(N, seed=1, start=START):
        truth.add(drawn)
        records.append(Record(drawn.number, START + SPAN, EVENTS.encode(as_event(drawn))))
    batch = read_batch(records)
    deltas = fold(batch, judge(batch, 0, seen), plan)
    merged: defaultdict[str, sketch.Counts] = defaultdict(dict)
    for delta in deltas.windows:
        if delta.series.metric == DURATIONS:
            sketch.merge(merged[delta.group], delta.state.counts if delta.state else {})
    return truth, Result(
        totals={(d.series.metric, d.minute, d.group): Total(d.n, d.sum, d.min, d.max) for d in deltas.windows},
        counted={series.metric: counters.counted for series, counters in deltas.counters.items()},
        late=sum(c.late for c in deltas.counters.values()),
        duplicates=sum(c.duplicates for c in deltas.counters.values()),
        invalid=sum(c.invalid for c in deltas.counters.values()),
        percentile_95={place: sketch.quantile(counts, 0.95) or 0.0 for place, counts in merged.items()},
    )

"""The truth is what a hand would count, agrees with the real fold, and every deviation from it is told."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from bench.aggregator.accounts import Moments, Place, Total, group
from bench.aggregator.differences import Counted, Result, differences, peer_differences
from bench.aggregator.metrics import (
    AMOUNTS,
    COUNTS,
    DURATIONS,
    FUNNEL,
    PERCENTILES,
    QUANTILES,
    USERS_SEEN,
    WORKLOADS,
    Wanted,
)
from bench.aggregator.peers.protocol import GroupTotal, Summary
from bench.aggregator.run import experiment
from bench.aggregator.truth import GroupSum, Truth
from bench.aggregator.workload import EVENT_TYPES, ORGANISATION, SPAN, Columns, Writer, draw
from services.aggregator.domain.batch import Record, judge, read_batch
from services.aggregator.domain.fold import fold
from services.aggregator.domain.metrics import parse_definition
from services.aggregator.domain.plan import make_plan
from services.aggregator.domain.seen import SeenIds
from services.aggregator.domain.states import Histogram
from shared.statistics import sketch

START = 1_790_000_040_000_000
"""A whole minute."""
MINUTE = 60_000_000
N = 5_000
W1 = WORKLOADS["W1"]
W4 = WORKLOADS["W4"]

Row = tuple[str, int, int, int, int]
"""Type, time, user, cents, milliseconds."""


def columns(*rows: Row) -> Columns:
    kinds, times, users, cents, milliseconds = zip(*rows, strict=True)
    none = [0] * len(rows)
    which = [EVENT_TYPES.index(kind) for kind in kinds]
    return Columns(*(np.array(c, np.int64) for c in (none, times, which, users, cents, milliseconds, none, none)))


def truth_of(workload: tuple[Wanted, ...], *rows: Row, experiment: bool = False) -> Truth:
    truth = Truth(workload, start=START, experiment=experiment)
    for row in rows:
        truth.add(columns(row))
    return truth


SOME: tuple[Row, ...] = (
    ("purchase", START, 8, 250, 30),
    ("purchase", START + MINUTE - 1, 8, 100, 50),
    ("search", START + MINUTE, 9, 0, 7),
)


def test_events_count_in_their_own_minute_and_group() -> None:
    truth = truth_of((COUNTS, AMOUNTS, DURATIONS), *SOME)

    assert truth.totals() == {
        (COUNTS.key, "value", START, '["purchase","control"]'): Total(2),
        (COUNTS.key, "value", START + MINUTE, '["search","treatment"]'): Total(1),
        (AMOUNTS.key, "value", START, '["control"]'): Total(2, 3_500_000, 1_000_000, 2_500_000),
        (DURATIONS.key, "value", START, '["purchase","control"]'): Total(2, 80_000_000, 30_000_000, 50_000_000),
        (DURATIONS.key, "value", START + MINUTE, '["search","treatment"]'): Total(1, 7_000_000, 7_000_000, 7_000_000),
    }
    assert [windows.counted for windows in truth.windows.values()] == [3, 2, 3]
    assert truth.groups() == {
        ("purchase", "control"): GroupSum(2, 80),
        ("search", "treatment"): GroupSum(1, 7),
    }


@pytest.mark.parametrize(("n", "rank"), [(1, 1), (19, 19), (20, 19), (21, 20), (100, 95), (101, 96)])
def test_the_percentile_is_the_value_at_its_rank(n: int, rank: int) -> None:
    truth = truth_of((QUANTILES,), *(("search", START + (i % 3) * MINUTE, 9, 0, n - i) for i in range(n)))

    assert truth.percentiles is not None
    assert truth.percentiles.values()['["search"]', "p95"] == rank * 1_000_000


def test_a_user_is_unique_by_minute_and_over_all() -> None:
    again: Row = ("search", START + 2 * MINUTE, 9, 0, 7)
    truth = truth_of((USERS_SEEN,), *SOME, again, again)

    assert truth.uniques is not None
    assert truth.unique_minutes() == {
        (START, '["purchase"]'): 1,
        (START + MINUTE, '["search"]'): 1,
        (START + 2 * MINUTE, '["search"]'): 1,
    }
    assert truth.uniques.overall() == {'["purchase"]': 1, '["search"]': 1}


def test_a_funnel_counts_who_got_how_far_in_order_of_time() -> None:
    truth = truth_of(
        (FUNNEL,),
        ("product_viewed", START + 3, 1, 0, 1),  # arrives before the page view that came before it
        ("page_viewed", START + 1, 1, 0, 1),
        ("cart_updated", START + 2, 1, 0, 1),  # too early
        ("product_viewed", START + 1, 2, 0, 1),  # before the page view
        ("page_viewed", START + 4, 2, 0, 1),
        ("purchase", START + 5, 3, 1, 1),  # nothing before it
    )

    assert truth.funnel is not None
    reached = truth.funnel.reached()
    assert reached == {"page_viewed": 2, "product_viewed": 1, "cart_updated": 0, "checkout_started": 0, "purchase": 0}


def test_moments_are_over_units_sums() -> None:
    truth = truth_of(W1, *SOME, ("purchase", START, 6, 400, 1), experiment=True)

    assert truth.units[AMOUNTS.key].moments() == {
        "control": Moments(3, 7_500_000, 2, 7_500_000, 3_500_000**2 + 4_000_000**2),
        "treatment": Moments(0, 0, 0, 0, 0),
    }


@pytest.mark.parametrize("workload", [W1, W4], ids=["W1", "W4"])
def test_the_real_fold_of_the_workload_is_the_truth(workload: tuple[Wanted, ...]) -> None:
    truth, result = folded(workload)
    assert list(differences(truth, result)) == []


def test_the_aggregator_accepts_every_definition_of_the_simple_types() -> None:
    for wanted in (*W1, QUANTILES, *W4):
        assert parse_definition(ORGANISATION, wanted.key, 1, wanted.definition).key == wanted.key


def test_the_experiment_splits_all_users_over_the_variants() -> None:
    assert sum(variant.buckets for variant in experiment().variants) == 1_000_000


def test_a_lost_event_is_told() -> None:
    truth, result = folded(W1)
    truth.add(columns(("search", START, 9, 0, 1)))

    told = "\n".join(differences(truth, result))
    assert f"('{DURATIONS.key}', 'value', {START}, '[\"search\",\"treatment\"]')" in told
    assert f"('{DURATIONS.key}', 'value'): expected {Counted(N + 1)}, found {Counted(N)}" in told


def test_a_window_that_should_not_be_is_told() -> None:
    truth, result = folded(W1)
    extra: Place = (DURATIONS.key, "value", START - MINUTE, group("search", "control"))

    (told,) = differences(truth, replace(result, totals={**result.totals, extra: Total(1)}))
    assert told == f"{extra}: expected None, found {Total(1)}"


def test_a_sum_off_by_one_unit_is_told() -> None:
    truth, result = folded(W1)
    place = next(p for p in result.totals if p[0] == DURATIONS.key)
    off = replace(result.totals[place], sum=result.totals[place].sum + 1)

    assert len(list(differences(truth, replace(result, totals={**result.totals, place: off})))) == 1


@pytest.mark.parametrize("field", ["late", "duplicates", "invalid"])
def test_events_that_were_dropped_are_told(field: str) -> None:
    truth, result = folded(W1)
    place = (DURATIONS.key, "value")
    dropped = replace(result.counters[place], **{field: 3})

    (told,) = differences(truth, replace(result, counters={**result.counters, place: dropped}))
    assert f"{field}=3" in told


def test_a_percentile_more_than_one_percent_off_is_told() -> None:
    truth, result = folded(W4)
    assert truth.percentiles is not None
    exact = truth.percentiles.values()
    near = {asked: value * 1.009 for asked, value in exact.items()}
    far = {asked: value * 1.011 for asked, value in exact.items()}

    assert not list(differences(truth, replace(result, percentiles=near)))
    assert len(list(differences(truth, replace(result, percentiles=far)))) == len(exact)
    assert len(list(differences(truth, replace(result, percentiles={})))) == len(exact)


def test_few_unique_users_must_be_exact_and_stages_too() -> None:
    truth = truth_of((USERS_SEEN, FUNNEL), *SOME)
    assert truth.uniques is not None
    assert truth.funnel is not None
    right = Result({}, {}, {}, truth.unique_minutes(), truth.uniques.overall(), truth.funnel.reached())

    assert not list(differences(truth, right))
    assert len(list(differences(truth, replace(right, uniques={'["purchase"]': 2, '["search"]': 1})))) == 1
    assert len(list(differences(truth, replace(right, reached={**right.reached, "purchase": 1})))) == 1


def peer_total(kind: str, variant: str, of: GroupSum) -> GroupTotal:
    return GroupTotal(kind, variant, Summary(of.n, of.milliseconds, 0, 0))


def test_a_peer_that_adds_up_to_the_truth_passes_and_one_that_did_less_does_not() -> None:
    truth = truth_of(W1, *SOME)
    totals = [peer_total(*place, of) for place, of in truth.groups().items()]
    assert not list(peer_differences(truth, 3, totals))
    assert len(list(peer_differences(truth, 3, totals[:1]))) == 1
    assert len(list(peer_differences(truth, 3, [*totals, peer_total("search", "control", GroupSum(1, 1))]))) == 1

    less = peer_total("purchase", "control", GroupSum(2, 79))
    assert len(list(peer_differences(truth, 3, [totals[0], less]))) == 1


def test_of_a_peer_that_saw_a_part_the_number_of_events_must_be_right() -> None:
    truth = truth_of(W1, *SOME)
    totals = [peer_total(*place, of) for place, of in truth.groups().items()]
    assert not list(peer_differences(truth, 2, totals))
    assert len(list(peer_differences(truth, 2, totals[:1]))) == 1


def folded(workload: tuple[Wanted, ...]) -> tuple[Truth, Result]:
    """The truth about N events, and what the aggregator's own domain code makes of them."""
    truth, seen, writer = Truth(workload, start=START, experiment=False), SeenIds(), Writer()
    plan = make_plan([parse_definition(ORGANISATION, w.key, 1, w.definition) for w in workload], [])
    values = []
    for drawn in draw(N, seed=1, start=START):
        truth.add(drawn)
        values += [record.value for record in writer.records(drawn)]
    batch = read_batch([Record(offset, START + SPAN, value) for offset, value in enumerate(values)])
    deltas = fold(batch, judge(batch, 0, seen), plan)
    merged: defaultdict[str, sketch.Counts] = defaultdict(dict)
    for delta in deltas.windows:
        if delta.series.metric == QUANTILES.key:
            sketch.merge(merged[delta.group], delta.state.counts if isinstance(delta.state, Histogram) else {})
    return truth, Result(
        totals={
            (d.series.metric, d.series.component, d.minute, d.group): Total(d.n, d.sum, d.min, d.max)
            for d in deltas.windows
        },
        counters={
            (series.metric, series.component): Counted(c.counted, c.late, c.duplicates, c.invalid)
            for series, c in deltas.counters.items()
        },
        percentiles={
            (place, name): sketch.quantile(counts, int(name[1:]) / 100) or 0.0
            for place, counts in merged.items()
            for name in PERCENTILES
        },
    )

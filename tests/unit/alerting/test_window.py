"""Trailing windows and streaks: what counts, when it enters and leaves, and that no split or order matters."""

from __future__ import annotations

import random
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.alerting.domain.metric import MetricShape, Unreadable, Value, aggregation_of, read, shape_of
from services.alerting.domain.series import group_text, parse_group, parse_series
from services.alerting.domain.streak import Streaks
from services.alerting.domain.window import MAX_GROUPS, Put, TrailingWindow
from shared.clock import MINUTE, SECOND
from shared.messages import MetricUpdate
from shared.statistics import sketch
from tests.unit.alerting.scenes import COUNT, NOW, RATIO, shape, update


def put(window: TrailingWindow, message: MetricUpdate) -> Put:
    series = parse_series(message.series)
    assert series is not None
    return window.put(series.group, series.component, message)


def of(minutes: int, *, sketched: bool = False) -> TrailingWindow:
    window = TrailingWindow(minutes * MINUTE, sketched=sketched)
    window.advance(NOW)
    return window


def counted(window: TrailingWindow) -> int:
    totals = window.totals(()).get("value")
    return 0 if totals is None else totals.n


@pytest.mark.parametrize(("minute", "put_"), [(-6, Put.TOO_OLD), (-5, Put.NEWER), (0, Put.NEWER), (1, Put.NEWER)])
def test_a_window_of_five_minutes_reaches_back_to_the_minute_that_holds_its_begin(minute: int, put_: Put) -> None:
    window = of(5)
    assert put(window, update(minute=minute, n=1)) is put_
    assert counted(window) == (put_ is Put.NEWER)


def test_a_minute_that_lies_ahead_counts_once_the_clock_comes_near() -> None:
    window = of(5)
    put(window, update(minute=3, n=7))
    assert counted(window) == 0
    assert window.advance(NOW + 2 * MINUTE - 1) == []
    assert window.advance(NOW + 2 * MINUTE) == [()]
    assert counted(window) == 7


def test_a_minute_leaves_when_the_window_has_passed_it() -> None:
    window = of(5)
    put(window, update(n=7))
    assert window.advance(NOW + 6 * MINUTE - 1) == []
    assert counted(window) == 7
    assert window.advance(NOW + 6 * MINUTE) == [()]
    assert (counted(window), window.groups()) == (0, [])


def test_within_a_minute_nothing_moves() -> None:
    window = of(5)
    assert window.advance(NOW + 59 * SECOND) is None
    assert window.advance(NOW - MINUTE) is None


def test_a_newer_update_of_a_shard_replaces_and_another_shard_adds() -> None:
    window = of(5)
    put(window, update(n=5, revision=3))
    assert put(window, update(n=9, revision=3)) is Put.KNOWN
    assert put(window, update(n=1, revision=2)) is Put.KNOWN
    put(window, update(n=8, revision=4))
    put(window, update(n=2, shard=1))
    assert counted(window) == 10


def test_groups_beyond_the_limit_are_refused_and_known_ones_go_on() -> None:
    window = of(5)
    for number in range(MAX_GROUPS):
        assert put(window, update(group=(str(number),), n=1)) is Put.NEWER
    assert put(window, update(group=("one more",), n=1)) is Put.TOO_MANY_GROUPS
    assert put(window, update(group=("0",), n=2, revision=2)) is Put.NEWER


def test_extremes_are_those_of_the_minutes_that_count() -> None:
    window = of(2)
    put(window, update(minute=-2, n=1, min=-5, max=900))
    put(window, update(n=1, min=3, max=7))
    assert (window.totals((), extremes=True)["value"].min, window.totals((), extremes=True)["value"].max) == (-5, 900)
    window.advance(NOW + MINUTE)
    assert (window.totals((), extremes=True)["value"].min, window.totals((), extremes=True)["value"].max) == (3, 7)


def test_percentiles_of_a_window_are_those_of_the_minutes_that_count() -> None:
    window = of(2, sketched=True)
    metric = shape(type="value", aggregations=["p50"])

    def counts(value: int) -> bytes:
        return sketch.encode({int(b): 9 for b in sketch.buckets_of(np.array([value * 10**6]))})

    put(window, update(minute=-2, n=9, sketch=counts(1000)))
    put(window, update(n=9, sketch=counts(10)))
    put(window, update(n=9, revision=2, sketch=counts(20)))
    window.advance(NOW + MINUTE)
    value = read(metric, "p50", window.totals(())).value
    assert value is not None
    assert abs(value - 20) < Decimal("0.2")


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 2), st.integers(1, 9), st.integers(-9, 9)), max_size=40))
def test_no_order_or_repetition_changes_a_window(steps: list[tuple[int, int, int, int]]) -> None:
    messages = [
        update(minute=minute, shard=shard, revision=revision, n=revision * 3 + shard, total=revision * 7 + minute)
        for minute, shard, revision, _ in steps
    ]
    straight, shuffled = of(3), of(3)
    for message in messages:
        put(straight, message)
    again = messages * 2
    random.Random(len(messages)).shuffle(again)
    for message in again:
        put(shuffled, message)
    for window in (straight, shuffled):
        window.advance(NOW + MINUTE)
    newest: dict[tuple[int, int], MetricUpdate] = {}
    for message in messages:
        known = newest.get((message.window_start, message.shard))
        if known is None or known.revision < message.revision:
            newest[(message.window_start, message.shard)] = message
    expected = sum(m.n for m in newest.values() if NOW - 2 * MINUTE <= m.window_start <= NOW + 2 * MINUTE)
    assert counted(straight) == counted(shuffled) == expected


@pytest.mark.parametrize(
    ("top", "bottom", "value"),
    [(("numerator", 3), ("denominator", 4), "0.75"), (("numerator", 0), ("denominator", 4), "0")],
)
def test_a_ratio_divides_counts(top: tuple[str, int], bottom: tuple[str, int], value: str) -> None:
    window = of(5)
    for component, n in (top, bottom):
        put(window, update(component, n=n))
    assert read(RATIO, "avg", window.totals(())) == Value(Decimal(value), bottom[1])


def test_a_ratio_of_values_divides_sums_and_of_a_value_by_a_count_its_sum() -> None:
    window = of(5)
    put(window, update("numerator", n=2, total=30_000_000))
    put(window, update("denominator", n=4, total=120_000_000))
    both = shape(type="ratio", numerator={"value": "properties.a"}, denominator={"value": "properties.b"})
    mixed = shape(type="ratio", numerator={"value": "properties.a"}, denominator={})
    assert read(both, "avg", window.totals(())).value == Decimal("0.25")
    assert read(mixed, "avg", window.totals(())).value == Decimal("7.5")


def test_a_ratio_by_nothing_has_no_value_but_is_not_empty() -> None:
    window = of(5)
    put(window, update("numerator", n=2))
    assert read(RATIO, "avg", window.totals(())) == Value(None, 0)
    assert read(RATIO, "avg", of(5).totals(())) == Value(None, 0, empty=True)


JOURNEY = shape(type="journey")
_OUTCOMES = {"completed": 6, "abandoned_after_navigation": 3, "abandoned_timeout": 1, "in_progress": 10}


@pytest.mark.parametrize(
    ("aggregation", "value", "n"),
    [
        ("abandonment_rate", "0.4", 10),
        ("completion_rate", "0.6", 10),
        ("abandoned", "4", 20),
        ("abandoned_timeout", "1", 20),
        ("started", "20", 20),
        ("avg_duration", "1.5", 6),
    ],
)
def test_a_journey_counts_by_outcome_and_rates_over_what_is_resolved(aggregation: str, value: str, n: int) -> None:
    window = of(5)
    for outcome, count in _OUTCOMES.items():
        message = update("outcome", (outcome,), n=count, total=9_000_000 if outcome == "completed" else 0)
        window.put((), outcome, message)
    assert read(JOURNEY, aggregation, window.totals(())) == Value(Decimal(value), n)


def test_journeys_that_moved_from_one_shard_to_another_add_up() -> None:
    window = of(5)
    window.put((), "in_progress", update("outcome", ("in_progress",), n=1))
    window.put((), "in_progress", update("outcome", ("in_progress",), n=-1, shard=1))
    window.put((), "completed", update("outcome", ("completed",), n=1, shard=1))
    assert read(JOURNEY, "completion_rate", window.totals(())) == Value(Decimal(1), 1)


@pytest.mark.parametrize(
    ("metric", "wanted", "found"),
    [
        (COUNT, None, "count"),
        (shape(type="value"), None, "avg"),
        (RATIO, None, "avg"),
        (JOURNEY, None, "abandonment_rate"),
        (COUNT, "avg", Unreadable.AGGREGATION),
        (shape(type="value"), "p95", Unreadable.NO_HISTOGRAM),
        (shape(type="value", aggregations="p50"), "p95", "p95"),
        (shape(type="value"), "p0", Unreadable.AGGREGATION),
        (shape(type="streak"), None, Unreadable.STREAK),
        (shape(type="something"), None, Unreadable.UNKNOWN_TYPE),
    ],
)
def test_a_rule_reads_what_the_metric_has(metric: MetricShape, wanted: str | None, found: object) -> None:
    assert aggregation_of(metric, wanted) == found


def test_a_scale_moves_the_decimal_point() -> None:
    window = of(5)
    put(window, update(n=2, total=300))
    assert read(shape_of(1, {"type": "value", "scale": 2}), "avg", window.totals(())).value == Decimal("1.5")


def test_a_streak_ends_with_the_latest_success_of_any_shard() -> None:
    streaks = Streaks()
    streaks.put((), update("streak", streak=True, n=3, failures=(1, 5, 9)))
    streaks.put((), update("streak", streak=True, shard=1, n=2, latest_success=4, failures=(6,)))
    merged = streaks.merged()
    assert (merged.failures, merged.latest_success, merged.n) == ((5, 6, 9), 4, 5)
    assert (merged.latest, merged.failures_after(5)) == (9, 2)
    assert not streaks.put((), update("streak", streak=True, n=9, failures=(7,)))


@pytest.mark.parametrize("text", ["", "[]", '["value"]', '["value","x"]', '["value","[1]"]', "nonsense", '["v",[]]'])
def test_what_is_no_series_of_a_metric_is_none(text: str) -> None:
    assert parse_series(text) is None


@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=3).map(tuple))
def test_a_groups_text_means_the_group(group: tuple[str | None, ...]) -> None:
    assert parse_group(group_text(group)) == group

"""The fold by examples; `test_differential` compares it with the reference."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from services.aggregator.domain.deltas import Deltas, SeriesCounters, WindowDelta
from services.aggregator.domain.fold import fold
from services.aggregator.domain.plan import Plan, exposure_series, result_series
from services.aggregator.domain.states import Histogram
from services.aggregator.domain.sums import squares_of, sums_of
from shared.clock import MINUTE, SECOND
from tests.unit.aggregator.builders import (
    NOW,
    ORGANISATION,
    definition,
    distinct,
    event,
    experiment,
    judged,
    plan_of,
    record,
)


def deltas_of(events: list[dict[str, Any]], plan: Plan) -> Deltas:
    return fold(*judged(distinct(events)), plan)


def by_group(deltas: Deltas) -> dict[tuple[str | None, ...], int]:
    return {tuple(json.loads(d.group)): d.n for d in deltas.windows}


def test_events_fall_into_the_minute_of_their_own_time() -> None:
    events = [event(time=NOW - 1), event(time=NOW), event(time=NOW + MINUTE - 1), event(time=NOW + MINUTE)]
    deltas = deltas_of(events, plan_of(definition()))
    assert {d.minute: d.n for d in deltas.windows} == {NOW - MINUTE: 1, NOW: 2, NOW + MINUTE: 1}
    assert all(d.group == "[]" and d.min is None and d.state is None for d in deltas.windows)


def test_values_are_added_exactly() -> None:
    plan = plan_of(definition(type="value", value="properties.v", aggregations=["sum", "p50"]))
    deltas = deltas_of([event(properties={"v": v}) for v in (0.1, 0.2, -3, 5.5)], plan)
    (window,) = deltas.windows
    assert window == WindowDelta(
        series=plan.measures[0].series,
        minute=NOW,
        group="[]",
        n=4,
        sum=2_800_000,
        sum_squares=100_000**2 + 200_000**2 + 3_000_000**2 + 5_500_000**2,
        min=-3_000_000,
        max=5_500_000,
        state=window.state,
    )
    assert isinstance(window.state, Histogram)
    assert sum(window.state.counts.values()) == 4


@pytest.mark.parametrize("n", [1, 1 << 15, (1 << 15) + 1])
def test_squares_of_many_of_the_largest_values_do_not_overflow(n: int) -> None:
    for value in (10**17, -(10**17), (1 << 48) - 1):  # the last one is all ones in both limbs
        values = np.full(n, value, dtype=np.int64)
        assert sums_of(values, np.zeros(1, dtype=np.int64)) == [n * value]
        assert squares_of(values, np.zeros(1, dtype=np.int64)) == [n * value**2]


def test_nothing_cancels_over_a_hundred_batches() -> None:
    """NIST's NumAcc4 as a log: a first value, then a hundred batches of 10,000."""
    plan = plan_of(definition(type="value", value="properties.v"))
    (first,) = deltas_of([event(properties={"v": 10_000_000.2})], plan).windows
    (batch,) = deltas_of([event(properties={"v": v}) for v in (10_000_000.1, 10_000_000.3) * 5_000], plan).windows
    n, total = first.n + 100 * batch.n, first.sum + 100 * batch.sum
    squares = first.sum_squares + 100 * batch.sum_squares
    assert Fraction(total, n * 10**6) == Fraction("10000000.2")
    assert Fraction(squares * n - total * total, n * (n - 1) * 10**12) == Fraction("0.01")


def test_text_booleans_and_numbers_group_as_text_and_all_else_as_absent() -> None:
    plan = plan_of(definition(group_by=["properties.g"]))
    groups: list[Any] = ["a", "", True, 1, 1.5, 2**63, 2**64, None, [1], {"a": 1}]
    found = by_group(deltas_of([event(properties={"g": g}) for g in groups] + [event()], plan))
    assert found == {("a",): 1, ("",): 1, ("true",): 1, ("1",): 1, ("1.5",): 1, (str(2**63),): 1, (None,): 5}


def test_a_group_that_postgres_cannot_hold_makes_the_event_invalid_for_this_metric_only() -> None:
    plan = plan_of(definition("grouped", group_by=["properties.g"]), definition("plain"))
    deltas = deltas_of([event(properties={"g": g}) for g in ("a", "\x00", "x" * 201, "x" * 200)], plan)
    grouped, plain = (m.series for m in plan.measures)
    assert deltas.counters[grouped] == SeriesCounters(counted=2, invalid=2)
    assert deltas.counters[plain] == SeriesCounters(counted=4)


def test_a_group_too_long_for_a_primary_key_makes_the_event_invalid_for_this_metric() -> None:
    wide = {"a": "\U0001f600" * 200, "b": "b", "c": "c"}
    columns = {n: plan_of(definition(group_by=[f"properties.{c}" for c in "abc"[:n]])) for n in (1, 3)}
    events = [event(properties=wide), event(properties={"a": "x" * 200, "b": "y" * 200, "c": "z" * 200})]
    assert deltas_of(events, columns[1]).counters[columns[1].measures[0].series] == SeriesCounters(counted=2)
    deltas = deltas_of(events, columns[3])
    assert deltas.counters[columns[3].measures[0].series] == SeriesCounters(counted=1, invalid=1)
    assert all(len(w.group.encode()) < 2_600 for w in deltas.windows)


def test_a_value_of_the_wrong_type_is_invalid_and_an_absent_one_is_not_concerned() -> None:
    plan = plan_of(definition(type="value", value="properties.v"))
    events = [event(properties={"v": v}) for v in (1, "1", True, 2**70, None, 1e308)] + [event()]
    deltas = deltas_of(events, plan)
    assert deltas.counters[plan.measures[0].series] == SeriesCounters(counted=1, invalid=4)
    assert [d.n for d in deltas.windows] == [1]


def test_late_events_and_duplicates_are_reported_by_metric_and_by_organisation() -> None:
    old = event(time=NOW - 2 * 1440 * MINUTE)
    records = [
        record(0, event(event_id="a")),
        record(1, event(event_id="a")),
        record(2, {**old, "event_id": "b"}),
        record(3, event(event_id="c", event_type="other")),
    ]
    plan = plan_of(definition(event="click"))
    deltas = fold(*judged(records), plan)
    assert deltas.counters[plan.measures[0].series] == SeriesCounters(counted=1, late=1, duplicates=1)
    counters = deltas.organisations[ORGANISATION]
    assert (counters.events, counters.counted, counters.late, counters.duplicates) == (4, 2, 1, 1)


def test_another_organisations_events_are_none_of_a_metrics_business() -> None:
    deltas = deltas_of([event(organisation="other")], plan_of(definition()))
    assert deltas.windows == []
    assert deltas.counters == {}
    assert set(deltas.organisations) == {"other"}


def test_an_empty_plan_still_counts_events() -> None:
    assert deltas_of([event()], plan_of()).organisations[ORGANISATION].counted == 1


def exposure(**properties: Any) -> dict[str, Any]:
    return event(
        event_type="experiment_exposure",
        user_id="u",
        properties={"experiment": "x", "variant": "control", **properties},
    )


def test_an_exposure_names_its_unit_variant_and_time() -> None:
    deltas = deltas_of([exposure()], plan_of(experiment()))
    (found,) = deltas.exposures
    assert (found.series, found.unit, found.variant, found.time) == (
        exposure_series(ORGANISATION, "x"),
        "u",
        "control",
        NOW,
    )
    assert deltas.invalid_experiment_events == 0


@pytest.mark.parametrize(
    "change",
    [
        {"properties": {"experiment": "unknown", "variant": "control"}},
        {"properties": {"experiment": "x", "variant": "unknown"}},
        {"properties": {"experiment": ["x"], "variant": "control"}},
        {"properties": {"experiment": "x", "variant": {}}},
        {"properties": {}},
        {"user_id": None},
        {"user_id": ""},
        {"user_id": "u\x00"},
        {"user_id": "u" * 501},
    ],
)
def test_an_exposure_that_fits_no_experiment_is_reported(change: dict[str, Any]) -> None:
    deltas = deltas_of([{**exposure(), **change}], plan_of(experiment()))
    assert deltas.exposures == []
    assert deltas.invalid_experiment_events == 1


def test_a_unit_is_the_id_of_the_experiments_kind() -> None:
    ids = {"user_id": "u", "session_id": "s", "job_id": "j"}
    for kind in ("user", "session", "job"):
        plan = plan_of(experiment(unit=kind, metrics=("m",)), definition(event="click"))
        deltas = deltas_of([event(**ids), {**exposure(), **ids}], plan)
        assert deltas.unit_values[0].units == [kind[0]]
        assert deltas.exposures[0].unit == kind[0]


def test_a_count_gives_its_unit_one_and_a_value_its_value() -> None:
    plan = plan_of(
        experiment(metrics=("n", "v")), definition("n", scale=3), definition("v", type="value", value="properties.v")
    )
    deltas = deltas_of([event(user_id="u", properties={"v": 2.5}), event(properties={"v": 1})], plan)
    assert {v.series.metric: (v.units, v.times.tolist(), v.values.tolist()) for v in deltas.unit_values} == {
        "n": (["u"], [NOW], [1_000]),
        "v": (["u"], [NOW], [2_500_000]),
    }


def test_units_gain_nothing_after_the_end_of_their_experiment() -> None:
    plan = plan_of(experiment(metrics=("m",), ended_at=NOW), definition())
    deltas = deltas_of([event(user_id="u", time=NOW), event(user_id="u", time=NOW + 1)], plan)
    assert deltas.unit_values[0].times.tolist() == [NOW]
    assert sum(d.n for d in deltas.windows) == 2


def test_an_exposure_after_the_end_of_its_experiment_is_passed_over() -> None:
    plan = plan_of(experiment(ended_at=NOW))
    deltas = deltas_of([exposure(), {**exposure(), "user_id": "late", "time": NOW + 1}], plan)
    assert [e.unit for e in deltas.exposures] == ["u"]
    assert deltas.invalid_experiment_events == 0


def test_an_exposure_says_what_its_unit_can_be_cut_by() -> None:
    plan = plan_of(experiment(segments=("context.net", "properties.tier", "properties.missing", "properties.long")))
    one = exposure(tier=3, long="x" * 201)
    (found,) = deltas_of([{**one, "context": {"net": "4g"}}], plan).exposures
    assert found.context == '{"context.net":"4g","properties.tier":"3"}'


def result(**properties: Any) -> dict[str, Any]:
    values = {"experiment": "x", "variant": "treatment", "metric_name": "revenue", "metric_value": 9.5}
    return event(event_type="experiment_result", properties={**values, **properties})


def test_a_result_with_a_unit_waits_for_its_exposure_and_one_without_counts_for_its_variant() -> None:
    deltas = deltas_of([{**result(), "user_id": "u"}, result()], plan_of(experiment()))
    (values,), (unitless,) = deltas.unit_values, deltas.unitless
    assert values.series == unitless.series == result_series(ORGANISATION, "x", "revenue")
    assert (values.units, values.values.tolist()) == (["u"], [9_500_000])
    assert (unitless.variant, unitless.value) == ("treatment", 9_500_000)


@pytest.mark.parametrize(
    "properties",
    [
        {"metric_value": "9.5"},
        {"metric_value": True},
        {"metric_value": None},
        {"metric_value": 2**70},
        {"metric_name": ""},
        {"metric_name": 5},
        {"metric_name": "n\x00"},
        {"metric_name": "n" * 201},
        {"metric_name": "defined"},
        {"experiment": "unknown"},
        {"variant": "unknown"},
        {"variant": ["treatment"]},
    ],
)
def test_a_result_that_cannot_be_kept_is_reported(properties: dict[str, Any]) -> None:
    deltas = deltas_of([result(**properties)], plan_of(experiment(metrics=("defined",))))
    assert (deltas.unit_values, deltas.unitless, deltas.invalid_experiment_events) == ([], [], 1)


def test_a_result_after_the_end_of_its_experiment_is_passed_over() -> None:
    plan = plan_of(experiment(ended_at=NOW - SECOND))
    deltas = deltas_of([result()], plan)
    assert (deltas.unit_values, deltas.unitless, deltas.invalid_experiment_events) == ([], [], 0)

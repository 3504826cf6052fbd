"""Committed rows as the messages that others see."""

from __future__ import annotations

import json

import pytest

from services.aggregator.dead_letters import dead_letter
from services.aggregator.domain.batch import Rejected
from services.aggregator.domain.event import Unreadable
from services.aggregator.domain.kinds.by_unit import ByUnit
from services.aggregator.domain.plan import UnitSeries, WindowSeries
from services.aggregator.domain.runs import Run
from services.aggregator.domain.states import LatestRun
from services.aggregator.store.experiments import TotalsState
from services.aggregator.store.shards import ShardRow
from services.aggregator.store.windows import WindowState
from services.aggregator.update_messages import totals_update, window_update
from shared import topics
from shared.messages import MetricUpdate
from shared.statistics import sketch
from tests.unit.aggregator.builders import NOW, record

SHARD = ShardRow(
    shard=3,
    next_offset=17,
    watermark=NOW - 5,
    rolled_through=0,
    generation="g",
    last_timestamp=None,
    last_digest=None,
    published_revision=0,
    revision=41,
)


def window(*, component: str = "value", group: str = '["a",null]', minute: int = NOW) -> MetricUpdate:
    state = WindowState(
        series=WindowSeries("acme", "amount", 2, component, 6),  # type: ignore[arg-type]  # one of the literals
        minute=minute,
        group=group,
        n=3,
        sum=10**30,
        sum_squares=10**60,
        min=-1,
        max=2,
        sketch=sketch.encode({1: 2}),
    )
    return window_update(state, SHARD, NOW)


def totals(variant: str = "a", metric: str = "revenue") -> MetricUpdate:
    state = TotalsState(
        series=UnitSeries("acme", "x", metric, 2, "value", 6),
        variant=variant,
        observations=9,
        min=-4,
        max=7,
        units=5,
        unit_sum=10**25,
        unit_sum_squares=10**50,
        conflicted=2,
        sum=10**26,
        sum_squares=None,
        other_sum=3,
        other_sum_squares=9,
        cross_sum=-6,
        sketch=sketch.encode({4: 1}),
    )
    return totals_update(state, SHARD, NOW)


def test_a_streak_by_variant_travels_as_one_of_a_metric_does() -> None:
    run = Run(NOW, (NOW + 1, NOW + 2))
    state = TotalsState(
        series=UnitSeries("acme", "x", "failures", 1, "streak", 0, '["csv"]', ByUnit(run_length=2)),
        variant="a",
        observations=9,
        min=None,
        max=None,
        units=5,
        unit_sum=0,
        unit_sum_squares=0,
        sketch=LatestRun(run, 2).encode(),
    )
    update = totals_update(state, SHARD, NOW)
    assert (update.latest_success, update.failures) == (run.latest_success, run.failures)
    assert (update.sketch, update.n) == (b"", 9)
    assert json.loads(update.series) == ["failures", "streak", "a", '["csv"]']


def test_a_minute_row_travels_with_all_that_readers_need_to_add_it() -> None:
    assert window() == MetricUpdate(
        organisation="acme",
        subject_kind="metric",
        subject="amount",
        version=2,
        series='["value","[\\"a\\",null]"]',
        window_start=NOW,
        shard=3,
        revision=41,
        watermark=NOW - 5,
        published_at=NOW,
        scale=6,
        n=3,
        sum=str(10**30),
        sum_squares=str(10**60),
        min=-1,
        max=2,
        sketch=sketch.encode({1: 2}),
    )


def test_totals_travel_with_sums_over_units() -> None:
    assert totals() == MetricUpdate(
        organisation="acme",
        subject_kind="experiment",
        subject="x",
        version=2,
        series='["revenue","value","a"]',
        window_start=0,
        shard=3,
        revision=41,
        watermark=NOW - 5,
        published_at=NOW,
        scale=6,
        n=9,
        sum=str(10**25),
        sum_squares=str(10**50),
        min=-4,
        max=7,
        units=5,
        conflicted=2,
        includes_conflicted=True,
        event_sum=str(10**26),
        event_sum_squares="",
        other_sum="3",
        other_sum_squares="9",
        cross_sum="-6",
        sketch=sketch.encode({4: 1}),
    )


def test_a_series_names_its_component_and_its_group_apart() -> None:
    component, group = json.loads(window(component="numerator").series)
    assert (component, json.loads(group)) == ("numerator", ["a", None])


def test_no_two_rows_share_a_key_and_all_of_a_subject_share_a_partition() -> None:
    windows = [window(), window(component="numerator"), window(group="[]"), window(minute=NOW + 60_000_000)]
    assert len({topics.series_key(u) for u in windows}) == len(windows)
    assert len({topics.subject_key(u) for u in windows}) == 1
    arms = [totals(), totals("b"), totals(metric="")]
    assert len({topics.series_key(u) for u in arms}) == len(arms)
    assert len({topics.subject_key(u) for u in arms}) == 1


@pytest.mark.parametrize("update", [window(), totals()], ids=["window", "totals"])
def test_an_update_survives_the_wire(update: MetricUpdate) -> None:
    assert topics.METRIC_UPDATES.decode(topics.METRIC_UPDATES.encode(update)) == update


def test_a_dead_letter_is_named_by_its_place_and_keeps_the_record_whole() -> None:
    letter = dead_letter("events.v1", 3, Rejected(record(17, b"\xff{", NOW), Unreadable.MALFORMED, "what is wrong"))
    assert (letter.id, letter.partition, letter.offset) == ("events.v1-3-17", 3, 17)
    assert (letter.reason, letter.detail, letter.origin) == ("malformed_json", "what is wrong", "kafka")
    assert (letter.payload, letter.received_at) == (b"\xff{", NOW)
    assert topics.DEAD_LETTERS.decode(topics.DEAD_LETTERS.encode(letter)) == letter


def test_a_dead_letter_of_a_record_without_value_has_an_empty_payload() -> None:
    assert dead_letter("events.v1", 0, Rejected(record(0, None), Unreadable.EMPTY, "x")).payload == b""


def test_a_dead_letter_of_a_record_that_fills_a_message_still_fits_into_one() -> None:
    value = b"\xff" * 2_000_000
    letter = dead_letter("events.v1", 0, Rejected(record(0, value), Unreadable.MALFORMED, "what is wrong"))
    assert len(topics.DEAD_LETTERS.encode(letter)) < 1_900_000
    assert value.startswith(letter.payload)
    assert letter.detail == "what is wrong (payload: the first 1400000 of 2000000 bytes)"

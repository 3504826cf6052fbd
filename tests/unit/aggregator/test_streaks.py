"""Failures in a row, whatever order events come in and whichever shards they come through."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.domain.kinds.kind import Reading
from services.aggregator.domain.runs import Run, as_value, joined, of_values
from services.aggregator.domain.states import Histogram, LatestRun, decode, merged
from shared.definition_error import DefinitionError
from shared.statistics import sketch
from tests.unit.aggregator.builders import NOW, bounded, decoded, definition, kind_of

FAILURE = {"path": "properties.status", "value": "failed"}


@given(
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from(["failure", "failure", "success", "neither"]))),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
@bounded
def test_any_order_and_any_split_leave_the_failures_after_the_latest_success(
    events: list[tuple[int, str]], length: int, rng: random.Random
) -> None:
    single = [Run(t if how == "success" else 0, (t,) if how == "failure" else (), 1) for t, how in events]
    rng.shuffle(single)
    shards: list[Run] = [Run() for _ in range(3)]
    while single:
        size = rng.randrange(1, 4)
        batch, single = single[:size], single[size:]
        shard = rng.randrange(3)
        shards[shard] = joined([shards[shard], joined(batch, length)], length)
    rng.shuffle(shards)
    latest = max((t for t, how in events if how == "success"), default=0)
    failures = sorted(t for t, how in events if how == "failure" and t > latest)
    assert joined(shards, length) == Run(latest, tuple(failures[-length:]), len(events))


def test_a_success_at_the_same_instant_ends_the_streak() -> None:
    assert joined([Run(5, (), 1), Run(0, (5, 5), 2)], 10) == Run(5, (), 3)


def test_without_a_filter_of_success_what_is_no_failure_is_one() -> None:
    streak = kind_of(type="streak", failure=FAILURE)
    assert streak.length == 20
    assert streak.run_of(decoded(properties={"status": "failed"})) == Run(0, (NOW,), 1)
    assert streak.run_of(decoded(properties={"status": "partial"})) == Run(NOW, (), 1)


def test_with_a_filter_of_success_other_events_are_neither() -> None:
    streak = kind_of(type="streak", failure=FAILURE, success={"path": "event_type", "value": "click"})
    assert streak.run_of(decoded(properties={"status": "failed"})) == Run(0, (NOW,), 1), "a failure is no success"
    assert streak.run_of(decoded(event_type="click")) == Run(NOW, (), 1)
    assert streak.run_of(decoded(event_type="other")) == Run(0, (), 1)


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({}, "spec.failure"),
        ({"failure": {}}, "spec.failure.path"),
        ({"failure": FAILURE, "success": {"any": []}}, "spec.success.any"),
        ({"failure": FAILURE, "length": 0}, "spec.length"),
        ({"failure": FAILURE, "length": 101}, "spec.length"),
        ({"failure": FAILURE, "length": True}, "spec.length"),
        ({"failure": FAILURE, "length": 2.0}, "spec.length"),
        ({"failure": FAILURE, "event": [""]}, "spec.event"),
        ({"failure": FAILURE, "aggregations": ["streak"]}, "spec.aggregations"),
        ({"failure": FAILURE, "group_by": "x"}, "spec.group_by[0]"),
    ],
    ids=str,
)
def test_a_faulty_streak_is_refused_at_its_faulty_place(spec: dict[str, Any], place: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        definition(**{"type": "streak", **spec})
    assert refused.value.place == place


def test_a_streak_reads_as_its_length_and_its_count() -> None:
    assert kind_of(type="streak", failure=FAILURE).read(Run(3, (4, 5), 9), ("streak", "count")) == [
        Reading("streak", 2, 9),
        Reading("count", 9, 9),
    ]


@given(
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from(["failure", "success", "neither"])), min_size=1),
    st.integers(1, 6),
)
@bounded
def test_what_units_give_as_numbers_is_the_run_of_their_events(events: list[tuple[int, str]], length: int) -> None:
    runs = [Run(t if how == "success" else 0, (t,) if how == "failure" else (), 1) for t, how in events]
    values = [as_value(run, time) for run, (time, _) in zip(runs, events, strict=True)]
    whole = joined(runs, length)
    assert of_values(values, length) == Run(whole.latest_success, whole.failures)
    halves = [LatestRun(of_values(part, length), length) for part in (values[::2], values[1::2])]
    both = merged(*map(decode, [half.encode() for half in halves]))
    assert both is not None
    assert both.encode() == LatestRun(of_values(values, length), length).encode()


def test_a_histogram_of_the_first_release_is_not_taken_for_a_run() -> None:
    """It had no byte for its format, and so began with its lowest bucket."""
    for buckets in range(1, 30):
        counts = {4 + 256 * i: i + 1 for i in range(buckets)}
        state = decode(sketch.encode(counts)[1:])
        assert isinstance(state, Histogram)
        assert dict(state.counts) == counts

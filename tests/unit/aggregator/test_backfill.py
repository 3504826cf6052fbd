"""What of the log a backfill is about, and how the fold of a part gives what the fold of the whole gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.domain.backfill import (
    Placing,
    Span,
    only_from,
    pause_after,
    placing_of,
    remembers_from,
    span_of,
)
from services.aggregator.domain.batch import judge, read_batch
from services.aggregator.domain.seen import WINDOW_MINUTES, SeenIds
from shared.clock import DAY, HOUR, MINUTE
from tests.unit.aggregator.builders import NOW, bounded, event, kind_of, record


@pytest.mark.parametrize(
    ("log_begin", "since", "live_from", "expected"),
    [
        pytest.param(0, None, 500, Span(0, 0, 500), id="all that the log holds"),
        pytest.param(0, 200, 500, Span(0, 200, 500), id="since a time: what is before is read all the same"),
        pytest.param(120, None, 500, Span(120, 120, 500), id="retention has deleted the first ones"),
        pytest.param(120, 60, 500, Span(120, 120, 500), id="since a time that retention has deleted"),
        pytest.param(0, 900, 500, Span(0, 500, 500), id="since a time at which it was counted already"),
        pytest.param(800, None, 500, Span(800, 800, 800), id="all of it is deleted"),
        pytest.param(0, None, 0, Span(0, 0, 0), id="the metric was there from the start"),
    ],
)
def test_the_offsets_of_a_share_end_where_the_metric_was_counted_as_events_came(
    log_begin: int, since: int | None, live_from: int, expected: Span
) -> None:
    assert span_of(log_begin, since, live_from) == expected


def test_sums_are_placed_apart_and_what_is_known_of_units_is_merged() -> None:
    assert placing_of(kind_of(type="count")) is Placing.APART
    streak = kind_of(type="streak", failure={"path": "properties.x", "op": "exists"})
    assert placing_of(streak) is Placing.APART
    journey = kind_of(type="journey", unit="job", start={"event": "a"}, complete={"event": "b"})
    assert placing_of(journey) is Placing.MERGED


def test_events_before_the_asked_time_are_neither_counted_nor_duplicates_nor_late() -> None:
    records = [record(i, event(event_id=f"e{i % 3}", time=NOW - i * DAY)) for i in range(6)]
    batch = read_batch(records)
    whole = judge(batch, 0, SeenIds())
    part = only_from(whole, batch.offsets, 4)
    for name in ("counted", "duplicate", "late"):
        assert not getattr(part, name)[:4].any()
        assert (getattr(part, name)[4:] == getattr(whole, name)[4:]).all()
    assert part.watermark == whole.watermark
    assert only_from(whole, batch.offsets, 0) is whole


@bounded
@given(
    sent=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=40),
    cut=st.integers(1, 39),
)
def test_who_goes_on_in_the_middle_decides_like_who_was_there_from_the_start(
    sent: list[tuple[int, int, int]], cut: int
) -> None:
    """Ids and broker minutes, and hours that an event lies behind: what is remembered is read from the log again."""
    broker_time, records = NOW, []
    for offset, (name, minutes, hours) in enumerate(sent):
        broker_time += minutes * MINUTE
        content = event(event_id=f"e{name}", time=broker_time - hours * HOUR)
        records.append(record(offset, content, broker_time))
    cut = min(cut, len(records) - 1)
    before, after = read_batch(records[:cut]), read_batch(records[cut:])
    everything = SeenIds()
    first = judge(before, 0, everything)
    everything.add(before.digests, first.minutes)
    expected = judge(after, first.watermark, everything)

    remembered = [r for r in records[:cut] if r.broker_time >= remembers_from(before.last.broker_time)]
    seen = SeenIds()
    lead_in = read_batch(remembered)
    seen.add(lead_in.digests, (lead_in.broker_times // MINUTE).astype(np.int32))
    found = judge(after, first.watermark, seen)
    assert found.duplicate.tolist() == expected.duplicate.tolist()
    assert found.late.tolist() == expected.late.tolist()
    assert found.watermark == expected.watermark


def test_what_is_remembered_begins_with_a_whole_minute() -> None:
    assert remembers_from(NOW + 59_999_999) == NOW - WINDOW_MINUTES * MINUTE
    assert remembers_from(0) == 0


def test_a_batch_of_history_leaves_most_of_the_time_to_live_events_that_wait() -> None:
    assert pause_after(0.1, live_waits=True) == pytest.approx(0.3)
    assert pause_after(0.1, live_waits=False) == pytest.approx(0.1)

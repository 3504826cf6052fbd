"""The workload is what its description says, and the same every time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bench.aggregator.metrics import WORKLOADS
from bench.aggregator.workload import (
    EVENT_TYPES,
    EXPERIMENT,
    EXPOSURE,
    LEAD,
    NETWORKS,
    ORGANISATION,
    PURCHASE,
    SPAN,
    USERS,
    VARIANTS,
    Columns,
    Ints,
    Record,
    Writer,
    draw,
    exposures,
)
from shared.clock import MINUTE
from shared.kafka import partition_of
from shared.messages import Event
from shared.topics import EVENTS

START = 1_790_000_000_000_000
N = 20_000


def column(name: str, chunks: list[Columns]) -> Ints:
    joined: Ints = np.concatenate([getattr(chunk, name) for chunk in chunks])
    return joined


@pytest.fixture(scope="module")
def drawn() -> list[Columns]:
    return list(draw(N, seed=1, start=START))


@pytest.fixture(scope="module")
def records(drawn: list[Columns]) -> list[Record]:
    writer = Writer()
    return [record for chunk in drawn for record in writer.records(chunk)]


@pytest.fixture(scope="module")
def events(records: list[Record]) -> list[Event]:
    return [EVENTS.decode(record.value) for record in records]


def test_one_seed_gives_one_workload(drawn: list[Columns]) -> None:
    again, other = list(draw(N, seed=1, start=START)), list(draw(N, seed=2, start=START))
    for name in Columns.__dataclass_fields__:
        assert (column(name, again) == column(name, drawn)).all()
    assert (column("times", other) != column("times", drawn)).any()


def test_records_are_what_the_events_own_encoder_writes(events: list[Event], records: list[Record]) -> None:
    assert [EVENTS.encode(event) for event in events] == [record.value for record in records]


def test_a_record_says_what_was_drawn(drawn: list[Columns], events: list[Event]) -> None:
    for i in range(N):
        chunk, row = drawn[i // len(drawn[0])], i % len(drawn[0])
        kind = int(chunk.kinds[row])
        properties = {
            "variant": VARIANTS[int(chunk.users[row]) % 2],
            "durationMs": int(chunk.milliseconds[row]),
            **({"amount": int(chunk.cents[row]) / 100} if kind == PURCHASE else {}),
        }
        assert events[i] == Event(
            organisation=ORGANISATION,
            event_id=f"{i:08x}{int(chunk.ids[row]):016x}",
            event_type=EVENT_TYPES[kind],
            time=int(chunk.times[row]),
            received_at=int(chunk.times[row]) + 40_000,
            user_id=f"u-{int(chunk.users[row]):05d}",
            context={"networkType": NETWORKS[int(chunk.networks[row])]},
            properties=properties,
        )


def test_records_have_their_events_key_and_its_partition(events: list[Event], records: list[Record]) -> None:
    for event, record in zip(events, records, strict=True):
        assert record.key.decode() == EVENTS.key(event)
        assert record.partition == partition_of(EVENTS.key(event), EVENTS.partitions)


def test_an_event_is_about_250_bytes(records: list[Record]) -> None:
    assert 240 <= sum(len(record.value) for record in records) / N <= 260


def test_every_event_has_its_own_id(events: list[Event]) -> None:
    assert len({event.event_id for event in events}) == N


def test_times_cover_the_whole_span_and_nothing_else(drawn: list[Columns]) -> None:
    times = column("times", drawn)
    assert times.min() >= START
    assert times.max() < START + SPAN
    assert set(((times - START) // MINUTE).tolist()) == set(range(SPAN // MINUTE))


def test_times_are_a_little_out_of_order(drawn: list[Columns]) -> None:
    assert (np.diff(column("times", drawn)) < 0).any()


def test_only_purchases_have_an_amount_and_all_of_them(drawn: list[Columns]) -> None:
    assert ((column("cents", drawn) > 0) == (column("kinds", drawn) == PURCHASE)).all()


def test_the_events_spread_over_types_variants_and_partitions(drawn: list[Columns], records: list[Record]) -> None:
    assert {EVENT_TYPES[kind] for kind in column("kinds", drawn).tolist()} == {*EVENT_TYPES} - {EXPOSURE}
    assert set(column("variants", drawn).tolist()) == set(range(len(VARIANTS)))
    shares = Counter(record.partition for record in records)
    assert min(shares.values()) > N / EVENTS.partitions * 0.9


def test_every_user_is_exposed_once_and_before_all_events() -> None:
    seen = list(exposures(seed=1, start=START))
    assert column("users", seen).tolist() == list(range(USERS))
    assert column("times", seen).min() >= START - LEAD
    assert column("times", seen).max() < START

    record = next(Writer().records(seen[0]))
    event = EVENTS.decode(record.value)
    assert (event.event_type, event.user_id) == (EXPOSURE, "u-00000")
    assert event.properties["experiment"] == EXPERIMENT
    assert event.properties["variant"] == VARIANTS[0]


def test_exposures_and_events_share_no_id() -> None:
    seen, drawn = (next(Writer().records(next(c))) for c in (exposures(seed=1, start=0), draw(9, seed=1, start=0)))
    assert EVENTS.decode(seen.value).event_id != EVENTS.decode(drawn.value).event_id


def test_workloads_build_on_each_other_and_the_last_has_twenty_metrics() -> None:
    keys = {name: [wanted.key for wanted in metrics] for name, metrics in WORKLOADS.items()}
    assert set(keys["W1"]) < set(keys["W2"]) < set(keys["W3"])
    assert len(set(keys["W4"])) == 20

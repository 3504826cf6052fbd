"""W1 is what its description says, and the same every time."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from bench.aggregator.workload import (
    EVENT_TYPES,
    METRICS,
    ORGANISATION,
    PURCHASE,
    SPAN,
    USERS,
    VARIANTS,
    Drawn,
    as_event,
    draw,
)
from services.aggregator.domain.event import DecodedEvent, decode_event
from services.aggregator.domain.metrics import parse_definition
from shared.clock import MINUTE
from shared.kafka import partition_of
from shared.topics import EVENTS

START = 1_790_000_000_000_000
N = 20_000


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    return list(draw(N, seed=1, start=START))


def test_one_seed_gives_one_workload(drawn: list[Drawn]) -> None:
    assert list(draw(N, seed=1, start=START)) == drawn
    assert list(draw(N, seed=2, start=START)) != drawn


def test_an_event_is_about_250_bytes(drawn: list[Drawn]) -> None:
    sizes = [len(EVENTS.encode(as_event(d))) for d in drawn]
    assert 240 <= sum(sizes) / N <= 260


def test_every_event_is_readable_for_the_aggregator(drawn: list[Drawn]) -> None:
    for d in drawn[:1_000]:
        assert isinstance(decode_event(EVENTS.encode(as_event(d)), d.time), DecodedEvent)


def test_every_event_has_its_own_id(drawn: list[Drawn]) -> None:
    assert len({as_event(d).event_id for d in drawn}) == N


def test_times_cover_the_whole_span_and_nothing_else(drawn: list[Drawn]) -> None:
    assert all(START <= d.time < START + SPAN for d in drawn)
    assert {(d.time - START) // MINUTE for d in drawn} == set(range(SPAN // MINUTE))


def test_times_are_a_little_out_of_order(drawn: list[Drawn]) -> None:
    assert any(later.time < earlier.time for earlier, later in pairwise(drawn))


def test_a_user_stays_in_one_variant(drawn: list[Drawn]) -> None:
    assert len({(d.user, d.variant) for d in drawn}) == len({d.user for d in drawn})


def test_only_purchases_have_an_amount_and_all_of_them(drawn: list[Drawn]) -> None:
    assert {d.cents is not None for d in drawn if d.event_type == PURCHASE} == {True}
    assert {d.cents is not None for d in drawn if d.event_type != PURCHASE} == {False}


def test_the_events_spread_over_types_variants_and_partitions(drawn: list[Drawn]) -> None:
    assert {d.event_type for d in drawn} == set(range(len(EVENT_TYPES)))
    assert {d.variant for d in drawn} == set(range(len(VARIANTS)))
    assert 0 <= min(d.user for d in drawn) <= max(d.user for d in drawn) < USERS
    shares = Counter(partition_of(EVENTS.key(as_event(d)), EVENTS.partitions) for d in drawn)
    assert min(shares.values()) > N / EVENTS.partitions * 0.9


def test_amounts_are_numbers_with_at_most_two_decimals(drawn: list[Drawn]) -> None:
    for d in drawn:
        if d.cents is not None:
            assert round(as_event(d).properties["amount"] * 100) == d.cents > 0


def test_the_aggregator_accepts_every_definition() -> None:
    for key, spec in METRICS.items():
        assert parse_definition(ORGANISATION, key, 1, spec).key == key

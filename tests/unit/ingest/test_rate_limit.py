"""The token bucket: what it lets in over time, whatever is asked of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.rate_limit import Allowed, Balance, Wait, charged, given_back, refilled, retry_after
from shared.keys import RateLimit, rate_limit

LIMIT = RateLimit(100.0, 50)


def _after(balance: Balance | None, events: int, now: float, limit: RateLimit = LIMIT) -> Balance:
    decided = charged(balance, limit, events, now)
    assert isinstance(decided, Allowed)
    return decided.balance


def test_a_key_that_has_not_sent_anything_may_send_its_burst_and_then_waits() -> None:
    balance = _after(None, 50, 10.0)
    decided = charged(balance, LIMIT, 1, 10.0)
    assert isinstance(decided, Wait)
    assert decided.seconds == 0.01
    assert isinstance(charged(balance, LIMIT, 1, 10.0 + decided.seconds), Allowed)


def test_a_batch_larger_than_the_bucket_passes_and_is_waited_for_afterwards() -> None:
    balance = _after(None, 1_050, 0.0)
    decided = charged(balance, LIMIT, 1, 0.0)
    assert isinstance(decided, Wait)
    assert decided.seconds == 10.01


def test_large_batches_are_not_starved_by_small_ones() -> None:
    """Who comes when something is left gets in, whatever the size: 1,000 events among single ones."""
    balance = _after(None, 50, 0.0)
    balance = _after(balance, 1, 0.02)
    assert isinstance(charged(balance, LIMIT, 1_000, 0.025), Allowed)
    assert isinstance(charged(balance, LIMIT, 1, 0.015), Allowed)


def test_a_pause_fills_the_bucket_and_no_more() -> None:
    balance = _after(None, 40, 0.0)
    assert refilled(balance, LIMIT, 0.2).events == 30
    assert refilled(balance, LIMIT, 3_600.0).events == 50


def test_what_was_not_stored_is_given_back_but_never_more_than_the_bucket_holds() -> None:
    balance = _after(None, 50, 0.0)
    assert given_back(balance, LIMIT, 50, 0.0).events == 50
    assert given_back(balance, LIMIT, 50, 0.4).events == 50


def test_a_clock_that_is_a_moment_behind_changes_nothing() -> None:
    balance = _after(None, 30, 5.0)
    assert refilled(balance, LIMIT, 4.9) == Balance(20, 5.0)


def test_a_smaller_limit_holds_at_once() -> None:
    assert refilled(Balance(50, 0.0), RateLimit(1.0, 5), 0.0).events == 5


@given(
    st.floats(0.01, 1e6),
    st.integers(1, 1_000),
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5_000)), min_size=1, max_size=60),
)
def test_no_more_comes_in_than_the_limit_says_and_one_batch(
    rate: float, burst: int, asked: list[tuple[float, int]]
) -> None:
    limit = RateLimit(rate, burst)
    balance: Balance | None = None
    now, taken, largest = 100.0, 0, 0
    for pause, events in asked:
        now += pause
        decided = charged(balance, limit, events, now)
        if isinstance(decided, Allowed):
            balance = decided.balance
            taken += events
            largest = max(largest, events)
        else:
            assert isinstance(charged(balance, limit, events, now + decided.seconds * 1.001), Allowed)
    assert taken <= burst + rate * (now - 100.0) * 1.000_001 + largest


@given(st.floats(0, 1e5), st.floats(0, 1, exclude_max=True))
def test_a_client_is_told_whole_seconds_never_too_few_and_not_much_more(seconds: float, chance: float) -> None:
    told = retry_after(seconds, chance)
    assert seconds <= told <= seconds + max(1.0, seconds / 4) + 1


def test_clients_that_were_refused_together_are_told_different_times() -> None:
    assert {retry_after(10.0, n / 100) for n in range(100)} == {10, 11, 12, 13}


def test_without_a_burst_as_many_events_may_come_at_once_as_in_a_second() -> None:
    assert rate_limit(250.5) == RateLimit(250.5, 251)
    assert rate_limit(0.01) == RateLimit(0.01, 1)
    assert rate_limit(10, 7) == RateLimit(10, 7)

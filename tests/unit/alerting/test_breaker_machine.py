"""The breaker's state machine, boundary by boundary."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.alerting.domain.breaker_machine import (
    BreakerDecision,
    BreakerState,
    Position,
    Reason,
    close,
    decide,
    disable,
    enable,
)
from services.alerting.domain.streak import Streak
from shared.clock import HOUR, MINUTE, SECOND
from tests.unit.alerting.scenes import NOW, breaker

BREAKER = breaker()
CLOSED = BreakerState(since=NOW, after=NOW)
OPEN = BreakerState(Position.OPEN, since=NOW, after=NOW, openings=1, incident=1)
HALF_OPEN = BreakerState(Position.HALF_OPEN, since=NOW, after=NOW, openings=1, incident=1, probes=1)


def failures(count: int, *, begin: int = NOW, success: int = 0) -> Streak:
    """`count` failures a second apart, the first a second after `begin`."""
    return Streak(success, tuple(begin + n * SECOND for n in range(1, count + 1)), count)


@pytest.mark.parametrize(("count", "reason"), [(9, Reason.BELOW_THRESHOLD), (10, Reason.OPENED), (11, Reason.OPENED)])
def test_the_tenth_failure_opens(count: int, reason: Reason) -> None:
    assert decide(BREAKER, CLOSED, failures(count), NOW + MINUTE).reason is reason


def test_failures_before_it_closed_do_not_count() -> None:
    old = failures(10, begin=NOW - MINUTE)
    assert decide(BREAKER, CLOSED, old, NOW + MINUTE).failures == 0


def test_a_failure_at_the_moment_of_closing_does_not_count() -> None:
    assert decide(BREAKER, CLOSED, Streak(failures=(NOW,)), NOW).failures == 0


@pytest.mark.parametrize(
    ("elapsed", "reason"), [(60 * SECOND - 1, Reason.WAITING), (60 * SECOND, Reason.PROBING), (HOUR, Reason.PROBING)]
)
def test_the_timeout_must_have_passed_whole(elapsed: int, reason: Reason) -> None:
    assert decide(BREAKER, OPEN, failures(10, begin=NOW - MINUTE), NOW + elapsed).reason is reason


@pytest.mark.parametrize("streak", [Streak(latest_success=NOW + SECOND), failures(3)])
def test_while_open_neither_success_nor_failure_counts(streak: Streak) -> None:
    assert decide(BREAKER, OPEN, streak, NOW + 59 * SECOND).reason is Reason.WAITING


def test_one_success_closes() -> None:
    decision = decide(BREAKER, HALF_OPEN, Streak(latest_success=NOW + 1), NOW + SECOND)
    assert decision.reason is Reason.RECOVERED
    assert (decision.state.position, decision.state.closings, decision.state.attempts) == (Position.CLOSED, 1, 0)


def test_a_success_at_the_moment_of_probing_is_no_probe() -> None:
    assert decide(BREAKER, HALF_OPEN, Streak(latest_success=NOW), NOW + SECOND).reason is Reason.NO_VERDICT_YET


def test_nothing_new_is_no_verdict() -> None:
    old = failures(10, begin=NOW - MINUTE)
    assert decide(BREAKER, HALF_OPEN, old, NOW + HOUR).reason is Reason.NO_VERDICT_YET


@pytest.mark.parametrize(
    ("before", "reason", "position"),
    [
        (0, Reason.PROBE_FAILED, Position.OPEN),
        (1, Reason.PROBE_FAILED, Position.OPEN),
        (2, Reason.GIVEN_UP, Position.HELD),
    ],
)
def test_the_third_failed_probe_holds_it_open(before: int, reason: Reason, position: Position) -> None:
    decision = decide(BREAKER, replace(HALF_OPEN, attempts=before), failures(1), NOW + MINUTE)
    assert (decision.reason, decision.state.position, decision.state.attempts) == (reason, position, before + 1)


def test_a_success_after_a_failed_probe_still_closes_if_seen_together() -> None:
    streak = Streak(latest_success=NOW + 2, failures=(NOW + 3,))
    assert decide(BREAKER, HALF_OPEN, streak, NOW + SECOND).reason is Reason.RECOVERED


@pytest.mark.parametrize("elapsed", [0, HOUR, 24 * HOUR])
def test_held_it_waits_for_a_person(elapsed: int) -> None:
    held = replace(HALF_OPEN, position=Position.HELD)
    assert decide(BREAKER, held, Streak(latest_success=NOW + elapsed), NOW + elapsed).reason is Reason.HELD_OPEN


@pytest.mark.parametrize("position", [Position.OPEN, Position.HALF_OPEN, Position.HELD])
def test_a_person_closes_it_from_every_state(position: Position) -> None:
    state = replace(HALF_OPEN, position=position, attempts=2)
    decision = close(state, failures(10), Reason.CLOSED_BY_HAND, NOW + MINUTE)
    assert (decision.state.position, decision.state.attempts) == (Position.CLOSED, 0)
    assert decide(BREAKER, decision.state, failures(10), NOW + MINUTE).reason is Reason.BELOW_THRESHOLD


def test_closing_a_closed_one_changes_nothing() -> None:
    assert close(CLOSED, Streak(), Reason.CLOSED_BY_HAND, NOW) == BreakerDecision(
        Reason.ALREADY_CLOSED, CLOSED, Streak(), 0
    )


def test_what_is_known_when_it_closes_does_not_open_it_again_though_a_clock_is_ahead() -> None:
    ahead = failures(10, begin=NOW + 30 * SECOND)
    closed = close(OPEN, ahead, Reason.CLOSED_BY_HAND, NOW).state
    assert decide(BREAKER, closed, ahead, NOW + SECOND).failures == 0


def test_a_clock_that_is_far_ahead_blinds_it_for_a_minute_at_most() -> None:
    far = Streak(failures=(NOW + 20 * HOUR,))
    closed = close(OPEN, far, Reason.CLOSED_BY_HAND, NOW).state
    fresh = Streak(failures=tuple(sorted((*far.failures, *failures(9, begin=NOW + MINUTE).failures))))
    assert decide(BREAKER, closed, fresh, NOW + 2 * MINUTE).reason is Reason.OPENED


def test_disabled_it_decides_nothing_and_enabled_it_begins_anew() -> None:
    off = disable(OPEN, failures(10), NOW + MINUTE)
    assert (off.reason, off.state.position, off.state.enabled) == (Reason.DISABLED, Position.CLOSED, False)
    assert decide(BREAKER, off.state, failures(50, begin=NOW + HOUR), NOW + HOUR).reason is Reason.INACTIVE
    assert disable(off.state, Streak(), NOW + HOUR).reason is Reason.INACTIVE
    on = enable(off.state, NOW + HOUR).state
    assert decide(BREAKER, on, failures(10, begin=NOW + MINUTE), NOW + HOUR).failures == 0
    assert decide(BREAKER, on, failures(10, begin=NOW + HOUR), NOW + 2 * HOUR).reason is Reason.OPENED


def test_every_opening_is_an_incident_and_every_probe_admits_other_units() -> None:
    state, now = CLOSED, NOW
    admitted = []
    for _ in range(3):
        now += MINUTE
        opened = decide(BREAKER, state, failures(10, begin=now), now + MINUTE).state
        probing = decide(BREAKER, opened, failures(10, begin=now), now + 3 * MINUTE).state
        admitted.append(BREAKER.probes(probing.probes - 1))
        state = decide(BREAKER, probing, Streak(latest_success=now + 4 * MINUTE), now + 4 * MINUTE).state
        now += HOUR
    assert (state.openings, state.closings, state.incident) == (3, 3, 3)
    assert admitted == [(0, 100_000), (100_000, 200_000), (200_000, 300_000)]


@pytest.mark.parametrize(("share", "number", "admitted"), [(10, 9, (900_000, 1_000_000)), (10, 10, (0, 100_000))])
def test_after_the_last_range_comes_the_first_again(share: int, number: int, admitted: tuple[int, int]) -> None:
    assert breaker(probe_percentage=share).probes(number) == admitted


@pytest.mark.parametrize(("share", "size"), [(100, 1_000_000), (33.3333, 333_333), (0.0001, 1)])
def test_a_probe_range_is_as_large_as_asked_for(share: float, size: int) -> None:
    begin, end = breaker(probe_percentage=share).probes(7)
    assert end - begin == size
    assert end <= 1_000_000

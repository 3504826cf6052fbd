"""The state machine of a circuit breaker over a streak of failures.

               ≥ threshold failures in a row               timeout passed
      closed ────────────────────────────────► open ──────────────────────► half_open (a bucket range is admitted)
         ▲                                       ▲                              │ │
         │                                       └── a failure, attempts left ──┘ │ a failure, no attempts left
         └──────────────── a success after half-open, or by hand ───────────── held ◄┘

Only what happens after a state began counts in it: `after` is that moment, or the newest event known then if later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from services.alerting.domain.breaker import Breaker
from services.alerting.domain.streak import Streak
from shared.clock import MINUTE


class Position(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    HELD = "held"


class Reason(Enum):
    """What a look at a breaker came to; the value is the reason in the stored transition."""

    BELOW_THRESHOLD = "below_threshold"
    WAITING = "waiting"
    """Open: the time-out has not passed."""
    NO_VERDICT_YET = "no_verdict_yet"
    """Half-open: neither a success nor a failure so far."""
    HELD_OPEN = "held_open"
    INACTIVE = "inactive"
    OPENED = "consecutive_failures"
    PROBING = "timeout_passed"
    PROBE_FAILED = "probe_failed"
    GIVEN_UP = "recovery_attempts_used"
    RECOVERED = "probe_succeeded"
    CLOSED_BY_HAND = "closed_by_hand"
    RESTORED_BY_HAND = "restored_by_hand"
    """The switch was let go of on `switches.v1`."""
    ALREADY_CLOSED = "already_closed"
    ENABLED = "enabled"
    DISABLED = "disabled"
    DEFINITION_CHANGED = "definition_changed"


_SKEW = MINUTE
"""A client's clock may be ahead; one that is further ahead must not blind the breaker for as long."""


@dataclass(frozen=True, slots=True)
class BreakerState:
    """Times in microseconds UTC; `since` is of the heartbeat clock, `after` is compared with event times."""

    position: Position = Position.CLOSED
    since: int = 0
    after: int = 0
    attempts: int = 0
    """Failed probes since it opened first."""
    probes: int = 0
    """How often it has been half-open, ever: each probe admits the next bucket range."""
    openings: int = 0
    closings: int = 0
    incident: int = 0
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class BreakerDecision:
    reason: Reason
    state: BreakerState
    streak: Streak
    failures: int
    """Consecutive failures that count in the state before the decision."""


def decide(breaker: Breaker, state: BreakerState, streak: Streak, now: int) -> BreakerDecision:
    """What the streak, as known at `now`, makes of the state."""
    failures = streak.failures_after(state.after)

    def to(reason: Reason, following: BreakerState) -> BreakerDecision:
        return BreakerDecision(reason, following, streak, failures)

    if not state.enabled:
        return to(Reason.INACTIVE, state)
    if state.position is Position.CLOSED:
        if failures < breaker.failure_threshold:
            return to(Reason.BELOW_THRESHOLD, state)
        opened = replace(state, attempts=0, openings=state.openings + 1, incident=state.incident + 1)
        return to(Reason.OPENED, _enter(opened, Position.OPEN, streak, now))
    if state.position is Position.OPEN:
        if now < state.since + breaker.timeout:
            return to(Reason.WAITING, state)
        return to(Reason.PROBING, _enter(replace(state, probes=state.probes + 1), Position.HALF_OPEN, streak, now))
    if state.position is Position.HALF_OPEN:
        if streak.latest_success > state.after:
            return to(Reason.RECOVERED, _close(state, streak, now))
        if not failures:
            return to(Reason.NO_VERDICT_YET, state)
        failed = replace(state, attempts=state.attempts + 1)
        if failed.attempts >= breaker.recovery_attempts:
            return to(Reason.GIVEN_UP, _enter(failed, Position.HELD, streak, now))
        return to(Reason.PROBE_FAILED, _enter(failed, Position.OPEN, streak, now))
    return to(Reason.HELD_OPEN, state)


def close(state: BreakerState, streak: Streak, reason: Reason, now: int) -> BreakerDecision:
    """Closes from any state (CLOSED_BY_HAND, RESTORED_BY_HAND, DEFINITION_CHANGED); closed ones stay as they are."""
    failures = streak.failures_after(state.after)
    if state.position is Position.CLOSED:
        return BreakerDecision(Reason.ALREADY_CLOSED, state, streak, failures)
    return BreakerDecision(reason, _close(state, streak, now), streak, failures)


def disable(state: BreakerState, streak: Streak, now: int) -> BreakerDecision:
    """Closes it, and it decides nothing until `enable`."""
    failures = streak.failures_after(state.after)
    if not state.enabled:
        return BreakerDecision(Reason.INACTIVE, state, streak, failures)
    closed = state if state.position is Position.CLOSED else _close(state, streak, now)
    return BreakerDecision(Reason.DISABLED, replace(closed, enabled=False, since=now), streak, failures)


def enable(state: BreakerState, now: int) -> BreakerDecision:
    """What failed before `now` does not count."""
    return BreakerDecision(Reason.ENABLED, replace(state, enabled=True, since=now, after=now), Streak(), 0)


def _close(state: BreakerState, streak: Streak, now: int) -> BreakerState:
    closed = replace(state, attempts=0, closings=state.closings + 1)
    return _enter(closed, Position.CLOSED, streak, now)


def _enter(state: BreakerState, position: Position, streak: Streak, now: int) -> BreakerState:
    after = max(now, min(streak.latest, now + _SKEW))
    return replace(state, position=position, since=now, after=after)

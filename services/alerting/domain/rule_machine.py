"""The state machine of a threshold rule.

            crossed, `for` > 0             crossed for `for`
      ok ───────────────────────► pending ─────────────────► firing (warning ⇄ critical)
       ▲ ◄──── not crossed ─────────┘                          │
       └────────── not crossed any more, or no data ───────────┘

Too small a sample decides nothing: what fires goes on firing, what waits starts anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from services.alerting.domain.metric import Value
from services.alerting.domain.rule import Level, Rule


class Status(Enum):
    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"


class Reason(Enum):
    """What a look at a rule came to; the value is the reason in the stored transition."""

    NO_DATA_YET = "no_data_yet"
    TOO_FEW = "too_few"
    QUIET = "quiet"
    STILL_PENDING = "still_pending"
    STILL_FIRING = "still_firing"
    PENDING = "pending"
    RELENTED = "relented"
    """Crossed no more before `for` had passed."""
    TRIGGERED = "triggered"
    ESCALATED = "escalated"
    EASED = "eased"
    RECOVERED = "recovered"
    NO_DATA = "no_data"
    """The window is empty: what fired cannot be said to go on."""
    DISABLED = "disabled"
    DEFINITION_CHANGED = "definition_changed"


@dataclass(frozen=True, slots=True)
class RuleState:
    """Of one rule and group; times in microseconds of the heartbeat clock."""

    status: Status = Status.OK
    level: Level | None = None
    since: int = 0
    """When this status and level began."""
    warning_since: int | None = None
    """Since when a threshold has been crossed, without a break."""
    critical_since: int | None = None
    worst: Level | None = None
    """Of the present incident."""
    incident: int = 0


@dataclass(frozen=True, slots=True)
class RuleDecision:
    reason: Reason
    state: RuleState
    seen: Value


def decide(rule: Rule, state: RuleState, seen: Value, now: int) -> RuleDecision:
    """What `seen`, the value over the window at `now`, makes of the state."""
    if seen.empty:
        return _nothing_to_see(state, seen, now)
    if seen.value is None or seen.n < rule.minimum_sample:
        if state.status is Status.PENDING:
            return RuleDecision(Reason.TOO_FEW, _ok(state, now), seen)
        return RuleDecision(Reason.TOO_FEW, state, seen)
    level = rule.level_of(seen.value)
    if level is None:
        if state.status is Status.FIRING:
            return RuleDecision(Reason.RECOVERED, _ok(state, now), seen)
        if state.status is Status.PENDING:
            return RuleDecision(Reason.RELENTED, _ok(state, now), seen)
        return RuleDecision(Reason.QUIET, state, seen)
    state = replace(
        state,
        warning_since=now if state.warning_since is None else state.warning_since,
        critical_since=None
        if level is not Level.CRITICAL
        else now
        if state.critical_since is None
        else state.critical_since,
    )
    reached = _reached(rule, state, level, now)
    if reached is None:
        if state.status is Status.PENDING:
            return RuleDecision(Reason.STILL_PENDING, state, seen)
        return RuleDecision(Reason.PENDING, replace(state, status=Status.PENDING, level=None, since=now), seen)
    return _fire(state, reached, seen, now)


def end(state: RuleState, reason: Reason, now: int) -> RuleDecision:
    """Ends whatever goes on, because the rule is no more what it was (DISABLED, DEFINITION_CHANGED)."""
    return RuleDecision(reason, _ok(state, now), Value(None, 0))


def _nothing_to_see(state: RuleState, seen: Value, now: int) -> RuleDecision:
    if state.status is Status.FIRING:
        return RuleDecision(Reason.NO_DATA, _ok(state, now), seen)
    if state.status is Status.PENDING:
        return RuleDecision(Reason.RELENTED, _ok(state, now), seen)
    return RuleDecision(Reason.NO_DATA_YET, state, seen)


def _reached(rule: Rule, state: RuleState, level: Level, now: int) -> Level | None:
    """The worst level whose threshold has been crossed for long enough; what fires needs no second wait to stay."""
    due = now - rule.hold
    if state.critical_since is not None and (state.critical_since <= due or state.level is Level.CRITICAL):
        return Level.CRITICAL
    if state.status is Status.FIRING:
        return Level.WARNING if rule.warning is not None else Level.CRITICAL
    if rule.warning is not None and state.warning_since is not None and state.warning_since <= due:
        return Level.WARNING
    return None


def _fire(state: RuleState, reached: Level, seen: Value, now: int) -> RuleDecision:
    if state.status is not Status.FIRING:
        fired = replace(
            state, status=Status.FIRING, level=reached, since=now, worst=reached, incident=state.incident + 1
        )
        return RuleDecision(Reason.TRIGGERED, fired, seen)
    assert state.level is not None, "what fires has a level"
    if reached is state.level:
        return RuleDecision(Reason.STILL_FIRING, state, seen)
    worst = max(reached, state.worst or reached)
    reason = Reason.ESCALATED if reached > state.level else Reason.EASED
    return RuleDecision(reason, replace(state, level=reached, since=now, worst=worst), seen)


def _ok(state: RuleState, now: int) -> RuleState:
    return RuleState(since=now, incident=state.incident, worst=state.worst)

"""The threshold rule's state machine, boundary by boundary."""

from __future__ import annotations

from decimal import Decimal

import pytest

from services.alerting.domain.metric import Value
from services.alerting.domain.rule import Level, Rule
from services.alerting.domain.rule_machine import Reason, RuleDecision, RuleState, Status, decide, end
from shared.clock import SECOND
from tests.unit.alerting.scenes import NOW, rule

OK = RuleState()
EMPTY = Value(None, 0, empty=True)


def see(value: object, n: int = 100) -> Value:
    return Value(None if value is None else Decimal(str(value)), n)


def after(rule: Rule, *looks: tuple[int, Value]) -> RuleDecision:
    """The last decision after looks at (seconds from NOW, what is seen)."""
    state = OK
    for seconds, seen in looks:
        decision = decide(rule, state, seen, NOW + seconds * SECOND)
        state = decision.state
    return decision


ABOVE = rule(warning="5%", critical="10%", minimum_sample=20)
BELOW = rule(direction="below", warning=4.0, critical=3.5)


@pytest.mark.parametrize(
    ("value", "level"),
    [("0.0499", None), ("0.05", Level.WARNING), ("0.0999", Level.WARNING), ("0.1", Level.CRITICAL)],
)
def test_above_crosses_at_the_threshold_itself(value: str, level: Level | None) -> None:
    assert after(ABOVE, (0, see(value))).state.level is level


@pytest.mark.parametrize(
    ("value", "level"), [("4.0", None), ("3.999", Level.WARNING), ("3.5", Level.WARNING), ("3.499", Level.CRITICAL)]
)
def test_below_crosses_only_under_the_threshold(value: str, level: Level | None) -> None:
    assert after(BELOW, (0, see(value))).state.level is level


def test_one_in_twenty_is_exactly_five_percent() -> None:
    assert after(ABOVE, (0, Value(Decimal(1) / 20, 20))).reason is Reason.TRIGGERED


@pytest.mark.parametrize(("n", "reason"), [(19, Reason.TOO_FEW), (20, Reason.TRIGGERED)])
def test_the_minimum_sample_is_enough(n: int, reason: Reason) -> None:
    assert after(ABOVE, (0, see("0.5", n))).reason is reason


def test_a_small_sample_keeps_what_fires() -> None:
    decision = after(ABOVE, (0, see("0.5")), (1, see("0", 19)))
    assert (decision.reason, decision.state.status) == (Reason.TOO_FEW, Status.FIRING)


def test_an_empty_window_ends_what_fires_for_want_of_data() -> None:
    decision = after(ABOVE, (0, see("0.5")), (1, EMPTY))
    assert (decision.reason, decision.state.status) == (Reason.NO_DATA, Status.OK)


def test_no_value_in_a_window_that_is_not_empty_is_too_few() -> None:
    assert after(ABOVE, (0, see("0.5")), (1, see(None, 0))).reason is Reason.TOO_FEW


def test_an_empty_window_of_a_quiet_rule_is_nothing() -> None:
    assert after(ABOVE, (0, EMPTY)) == RuleDecision(Reason.NO_DATA_YET, OK, EMPTY)


def test_levels_go_up_and_down_and_each_is_a_transition_of_one_incident() -> None:
    looks = [(0, see("0.06")), (1, see("0.2")), (2, see("0.06")), (3, see("0.01"))]
    reasons = [after(ABOVE, *looks[: n + 1]).reason for n in range(4)]
    assert reasons == [Reason.TRIGGERED, Reason.ESCALATED, Reason.EASED, Reason.RECOVERED]
    assert after(ABOVE, *looks[:3]).state.worst is Level.CRITICAL
    assert after(ABOVE, *looks).state.incident == 1


def test_coming_back_is_a_new_incident() -> None:
    assert after(ABOVE, (0, see("0.2")), (1, see("0")), (2, see("0.2"))).state.incident == 2


def test_the_same_level_again_changes_nothing() -> None:
    first = after(ABOVE, (0, see("0.06")))
    assert after(ABOVE, (0, see("0.06")), (9, see("0.07"))).state == first.state


HOLD = rule(warning="5%", critical="10%", **{"for": "60s"})


@pytest.mark.parametrize(("seconds", "reason"), [(59, Reason.STILL_PENDING), (60, Reason.TRIGGERED)])
def test_for_must_have_passed_whole(seconds: int, reason: Reason) -> None:
    assert after(HOLD, (0, see("0.06")), (seconds, see("0.06"))).reason is reason


def test_a_break_begins_for_anew() -> None:
    looks = [(0, see("0.06")), (30, see("0.01")), (31, see("0.06"))]
    assert after(HOLD, *looks[:2]).reason is Reason.RELENTED
    assert after(HOLD, *looks, (90, see("0.06"))).reason is Reason.STILL_PENDING
    assert after(HOLD, *looks, (91, see("0.06"))).reason is Reason.TRIGGERED


def test_too_few_while_pending_begins_for_anew() -> None:
    rule_ = rule(warning=1, minimum_sample=10, **{"for": "60s"})
    decision = after(rule_, (0, see(5)), (30, see(5, 9)), (61, see(5)))
    assert decision.reason is Reason.PENDING


def test_critical_needs_its_own_for() -> None:
    looks = [(0, see("0.06")), (40, see("0.2")), (60, see("0.2"))]
    assert after(HOLD, *looks).state.level is Level.WARNING
    assert after(HOLD, *looks, (99, see("0.2"))).reason is Reason.STILL_FIRING
    assert after(HOLD, *looks, (100, see("0.2"))).reason is Reason.ESCALATED


def test_without_a_warning_only_critical_fires() -> None:
    only = rule(critical="10%")
    assert after(only, (0, see("0.06"))).reason is Reason.QUIET
    assert after(only, (0, see("0.2"))).state.level is Level.CRITICAL


@pytest.mark.parametrize("reason", [Reason.DISABLED, Reason.DEFINITION_CHANGED])
def test_an_end_from_outside_leaves_nothing_behind(reason: Reason) -> None:
    fired = after(ABOVE, (0, see("0.2"))).state
    ended = end(fired, reason, NOW + SECOND)
    assert (ended.state.status, ended.state.level, ended.state.since) == (Status.OK, None, NOW + SECOND)
    assert ended.state.incident == 1

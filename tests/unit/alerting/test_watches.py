"""Rules and breakers at work: which updates they take, and what follows from their decisions."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from services.alerting.domain.breaker_machine import BreakerState, Reason, close
from services.alerting.domain.breaker_watch import BreakerWatch
from services.alerting.domain.change import Change, Occasion
from services.alerting.domain.metric import MetricShape, Unreadable
from services.alerting.domain.rule import Rule
from services.alerting.domain.rule_watch import Held, RuleWatch
from services.alerting.domain.unsettled import SETTLES
from services.alerting.domain.window import Group
from shared.clock import MINUTE, SECOND
from shared.messages import MetricUpdate
from tests.unit.alerting.scenes import COUNT, NOW, RATIO, STREAK, breaker, rule, series_of, shape, update

OCCASION = Occasion(published_at=NOW, lag_ms=3, lag_records=2)
BY_VARIANT = shape(type="count", group_by=["properties.variant", "properties.os"])


def watch(made: Rule, metric: MetricShape | None = COUNT) -> RuleWatch:
    watching = RuleWatch(made, metric)
    watching.advance(NOW)
    return watching


def look(watching: RuleWatch, message: MetricUpdate, now: int = NOW) -> Change | None:
    """Applies, decides, and holds the new state as if it were stored."""
    group = watching.apply(series_of(message), message)
    return None if group is None else decide(watching, group, now)


def decide(watching: RuleWatch, group: Group, now: int) -> Change | None:
    decision = watching.decide(group, now)
    if decision is None:
        return None
    change = watching.change(group, decision, now, OCCASION)
    watching.held[group] = Held(decision.state)
    return change


def test_a_crossing_tells_everything_about_itself() -> None:
    watching = watch(rule(warning=5, critical=9, labels={"team": "import"}, runbook_url="https://r.example.com"))
    change = look(watching, update(n=6))
    assert change is not None
    assert change.transition is not None
    assert (change.transition.from_state, change.transition.to_state) == ("ok", "warning")
    assert change.transition.evidence == {
        "rule": "r",
        "metric": "m",
        "aggregation": "count",
        "value": 6.0,
        "n": 6,
        "window_seconds": 300,
        "direction": "above",
        "threshold": 5.0,
        "reason": "triggered",
        "labels": {"team": "import"},
        "lag_ms": 3,
        "lag_records": 2,
        "update_published_at": NOW,
    }
    assert change.alert is not None
    assert (change.alert.action, change.alert.severity, change.alert.incident) == ("trigger", "warning", 1)
    assert change.alert.message == "r.m is 6, reaching the warning threshold of 5 (n = 6)"
    assert change.alert.runbook_url == "https://r.example.com"


def test_going_on_changes_nothing_and_the_end_is_told_with_the_worst_in_mind() -> None:
    watching = watch(rule(warning=5, critical=9, notify={"warning": ["a"], "critical": ["b"]}))
    first = look(watching, update(n=9))
    assert first is not None
    assert first.alert is not None
    assert first.alert.notify == ("a", "b")
    assert look(watching, update(n=10, revision=2)) is None
    eased = look(watching, update(n=6, revision=3))
    assert eased is not None
    assert eased.alert is not None
    assert (eased.alert.action, eased.alert.severity, eased.alert.notify) == ("update", "warning", ("a", "b"))
    ended = look(watching, update(n=1, revision=4))
    assert ended is not None
    assert ended.alert is not None
    assert (ended.alert.action, ended.alert.notify, ended.alert.incident) == ("resolve", ("a", "b"), 1)


def test_each_group_of_a_metric_is_apart_and_has_an_alert_of_its_own() -> None:
    watching = watch(rule(warning=5), BY_VARIANT)
    assert look(watching, update(group=("a", None), n=4)) is None
    change = look(watching, update(group=("b", "x"), n=5))
    assert change is not None
    assert change.key.alert_key == 'rule:r:["b","x"]'
    assert change.transition is not None
    assert change.transition.evidence["group"] == {"properties.variant": "b", "properties.os": "x"}


def test_a_rule_that_names_a_group_takes_all_that_is_in_it_together() -> None:
    watching = watch(rule(warning=5, group={"properties.variant": "b"}), BY_VARIANT)
    assert look(watching, update(group=("a", "x"), n=50)) is None
    assert look(watching, update(group=("b", "x"), n=3)) is None
    change = look(watching, update(group=("b", "y"), n=2))
    assert change is not None
    assert change.key.alert_key == "rule:r"
    assert change.transition is not None
    assert change.transition.evidence["value"] == 5


def test_a_rule_on_a_share_takes_its_rows_and_no_others() -> None:
    metric = shape(type="value", aggregations=["avg", "share<=5", "share<=9"], group_by="properties.variant")
    watching = watch(rule(direction="below", warning="50%", aggregation="share<=5"), metric)
    assert look(watching, update("value", ("a",), n=10, total=0)) is None
    assert look(watching, update("share", ("share<=9", "a"), n=10, total=0)) is None
    change = look(watching, update("share", ("share<=5", "a"), n=10, total=4_000_000))
    assert change is not None
    assert change.key.alert_key == 'rule:r:["a"]'
    assert change.transition is not None
    assert change.transition.evidence["value"] == 0.4


def test_a_rule_on_a_value_is_left_alone_by_shares() -> None:
    watching = watch(rule(warning=5), shape(type="value", aggregations=["avg", "share<=5"]))
    assert look(watching, update("share", ("share<=5",), n=10, total=100_000_000)) is None
    assert look(watching, update("value", n=1, total=5_000_000)) is not None


def test_a_share_that_the_metric_does_not_count_cannot_be_watched() -> None:
    assert watch(rule(warning=1, aggregation="share<=6"), shape(type="value")).problem is Unreadable.AGGREGATION
    assert watch(rule(warning=1), shape(type="survey")).problem is Unreadable.UNKNOWN_TYPE


def test_a_journeys_outcomes_are_parts_of_one_group() -> None:
    watching = watch(rule(warning="50%"), shape(type="journey", group_by="properties.variant"))
    assert look(watching, update("outcome", ("completed", "a"), n=2)) is None
    assert look(watching, update("step", ("abandoned_timeout", "a"), n=9)) is None
    assert look(watching, update("outcome", ("abandoned_timeout", "a"), n=2)) is None
    assert watching.pass_time(NOW, SETTLES) == [("a",)]
    change = decide(watching, ("a",), NOW)
    assert change is not None
    assert change.key.alert_key == 'rule:r:["a"]'
    assert change.transition is not None
    assert change.transition.evidence["value"] == 0.5


def test_a_ratio_waits_for_the_denominator_of_every_window_and_shard_that_has_a_new_numerator() -> None:
    watching = watch(rule(warning="50%"), RATIO)
    for message in (
        update("numerator", n=9),
        update("numerator", minute=-1, n=9),
        update("numerator", shard=1, n=9),
        update("denominator", n=100),
        update("denominator", shard=1, n=100),
    ):
        assert watching.apply(series_of(message), message) is None
    last = update("denominator", minute=-1, n=100)
    assert watching.apply(series_of(last), last) == ()


def test_a_numerator_that_stays_alone_is_decided_on_when_it_has_waited_long_enough() -> None:
    watching = watch(rule(warning="50%"), RATIO)
    look(watching, update("denominator", n=4))
    alone = update("numerator", n=4)
    assert watching.apply(series_of(alone), alone, SECOND) is None
    assert watching.pass_time(NOW, SECOND + SETTLES - 1) == []
    assert watching.pass_time(NOW, SECOND + SETTLES) == [()]
    assert watching.pass_time(NOW, SECOND + 2 * SETTLES) == []


def test_what_time_alone_would_decide_waits_for_the_other_half_too() -> None:
    watching = watch(rule(warning="50%", **{"for": "30s"}), RATIO)
    look(watching, update("numerator", n=4))
    look(watching, update("denominator", n=4))
    half = update("numerator", minute=1, n=1)
    assert watching.apply(series_of(half), half, SECOND) is None
    assert watching.pass_time(NOW + MINUTE, SECOND + 1) == []
    assert watching.pass_time(NOW + MINUTE, SECOND + SETTLES) == [()]


def test_a_numerator_that_is_long_past_is_decided_on_before_the_next_update() -> None:
    watching = watch(rule(warning="50%"), RATIO)
    alone = update("numerator", n=4)
    assert watching.apply(series_of(alone), alone) is None
    at_once = structs.replace(update("denominator", shard=1, n=9), published_at=NOW + SETTLES - 1)
    assert watching.before(at_once, NOW) == []
    later = structs.replace(at_once, published_at=NOW + SETTLES)
    assert watching.before(later, NOW) == [()]
    assert watching.apply(series_of(later), later) == ()


@pytest.mark.parametrize(
    ("made", "metric", "problem"),
    [
        (rule(warning=1), None, Unreadable.UNKNOWN_METRIC),
        (rule(warning=1), STREAK, Unreadable.STREAK),
        (rule(warning=1, aggregation="p95"), COUNT, Unreadable.AGGREGATION),
        (rule(warning=1, group={"properties.x": "1"}), BY_VARIANT, Unreadable.GROUP),
    ],
)
def test_a_rule_that_cannot_be_read_says_why_and_decides_nothing(
    made: Rule, metric: MetricShape | None, problem: Unreadable
) -> None:
    watching = watch(made, metric)
    assert watching.problem is problem
    assert watching.apply(series_of(update(n=9)), update(n=9)) is None
    assert watching.decide((), NOW) is None


def test_another_version_of_the_metric_is_another_series() -> None:
    watching = watch(rule(warning=5), shape(type="count"))
    newer = MetricUpdate(**{name: getattr(update(n=9), name) for name in update().__struct_fields__} | {"version": 2})
    assert watching.apply(series_of(newer), newer) is None


def test_a_disabled_rule_decides_nothing() -> None:
    assert look(watch(rule(warning=5, enabled=False)), update(n=9)) is None


def test_every_makes_a_rule_look_once_in_an_interval() -> None:
    watching = watch(rule(warning=5, every="60s"))
    assert look(watching, update(n=1)) is None
    assert look(watching, update(n=9, revision=2), NOW + 59 * SECOND) is None
    assert watching.advance(NOW + 60 * SECOND) == [()]
    change = decide(watching, (), NOW + 60 * SECOND)
    assert change is not None
    assert change.status == "warning"


def test_time_alone_ends_what_nobody_feeds() -> None:
    watching = watch(rule(warning=5))
    look(watching, update(n=9))
    assert watching.advance(NOW + 5 * MINUTE) == [()]
    assert decide(watching, (), NOW + 5 * MINUTE) is None
    assert watching.advance(NOW + 6 * MINUTE) == [()]
    change = decide(watching, (), NOW + 6 * MINUTE)
    assert change is not None
    assert change.transition is not None
    assert change.transition.reason == "no_data"


def test_time_alone_fulfils_a_for() -> None:
    watching = watch(rule(warning="50%", **{"for": "30s"}), RATIO)
    look(watching, update("numerator", n=4))
    pending = look(watching, update("denominator", n=4))
    assert pending is not None
    assert (pending.status, pending.alert) == ("pending", None)
    assert watching.advance(NOW + 30 * SECOND) == [()]
    fired = decide(watching, (), NOW + 30 * SECOND)
    assert fired is not None
    assert fired.status == "warning"


def guard(**spec: object) -> BreakerWatch:
    return BreakerWatch(breaker(failure_threshold=2, **spec), STREAK, BreakerState())


def feed(watching: BreakerWatch, now: int, *, revision: int, **state: Any) -> Change | None:
    message = update("streak", streak=True, revision=revision, **state)
    watching.apply(series_of(message), message)
    decision = watching.decide(now)
    change = watching.change(decision, now, OCCASION)
    watching.state = decision.state
    return change


def test_a_breaker_says_with_its_switch_why_and_whom_it_lets_in() -> None:
    watching = guard(variant="background", notify=["pager"])
    opened = feed(watching, NOW, revision=1, failures=(NOW - 2, NOW - 1), n=2)
    assert opened is not None
    assert opened.switch is not None
    assert (opened.switch.flag, opened.switch.variant, opened.switch.cause) == ("f", "background", "breaker:b")
    assert (opened.switch.off, opened.switch.decided_at, opened.switch.admit_to) == (True, NOW, 0)
    evidence = opened.switch.evidence
    assert {name: evidence[name] for name in ("breaker", "state", "failures", "threshold", "attempts", "reason")} == {
        "breaker": "b",
        "state": "open",
        "failures": 2,
        "threshold": 2,
        "attempts": 0,
        "reason": "consecutive_failures",
    }
    assert (evidence["update_published_at"], evidence["lag_ms"]) == (NOW, 3)
    assert "by" not in evidence
    assert opened.alert is not None
    assert (opened.alert.action, opened.alert.notify) == ("trigger", ("pager",))

    probing = feed(watching, NOW + 60 * SECOND, revision=2, failures=(NOW - 2, NOW - 1), n=2)
    assert probing is not None
    assert probing.switch is not None
    assert (probing.switch.off, probing.switch.admit_from, probing.switch.admit_to) == (True, 0, 100_000)
    assert probing.alert is None

    closed = feed(watching, NOW + 61 * SECOND, revision=3, latest_success=NOW + 61 * SECOND, n=3)
    assert closed is not None
    assert closed.switch is not None
    assert closed.switch.off is False
    assert closed.alert is not None
    assert closed.alert.action == "resolve"


def test_closing_by_hand_names_the_hand_but_looks_like_ours() -> None:
    watching = guard()
    feed(watching, NOW, revision=1, failures=(NOW - 2, NOW - 1), n=2)
    decision = close(watching.state, watching.streak, Reason.CLOSED_BY_HAND, NOW + SECOND)
    change = watching.change(decision, NOW + SECOND, OCCASION, closed_by="tg_x")
    assert change is not None
    assert change.switch is not None
    assert change.switch.evidence["closed_by"] == "tg_x"
    assert "by" not in change.switch.evidence


def test_a_breaker_of_a_group_counts_that_group_only() -> None:
    grouped = shape(type="streak", group_by=["properties.variant"])
    watching = BreakerWatch(breaker(failure_threshold=2, group={"properties.variant": "a"}), grouped, BreakerState())
    for revision, group in enumerate(["b", "b", "a"], start=1):
        message = update("streak", (group,), streak=True, revision=revision, failures=(NOW, NOW + revision), n=2)
        assert watching.apply(series_of(message), message) is (group == "a")
    assert watching.streak.failures == (NOW, NOW + 3)


@pytest.mark.parametrize(("metric", "problem"), [(None, Unreadable.UNKNOWN_METRIC), (COUNT, Unreadable.NO_STREAK)])
def test_a_breaker_without_a_streak_says_so(metric: MetricShape | None, problem: Unreadable) -> None:
    assert BreakerWatch(breaker(), metric, BreakerState()).problem is problem


def test_a_breaker_that_needs_more_failures_than_its_streak_keeps_says_so_instead_of_never_opening() -> None:
    long = breaker(failure_threshold=21)
    assert BreakerWatch(long, STREAK, BreakerState()).problem is Unreadable.TOO_SHORT
    assert BreakerWatch(long, shape(type="streak", length=21), BreakerState()).problem is None

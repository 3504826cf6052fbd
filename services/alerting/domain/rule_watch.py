"""A rule at work: its window, the state of each group, and what each decision changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from services.alerting.domain import rule_machine
from services.alerting.domain.change import AlertAction, AlertChange, Change, Occasion, StateKey, Transition
from services.alerting.domain.metric import (
    MetricShape,
    Unreadable,
    Value,
    aggregation_of,
    is_share,
    needs_sketch,
    read,
)
from services.alerting.domain.rule import Level, Rule
from services.alerting.domain.rule_machine import Reason, RuleDecision, RuleState, Status
from services.alerting.domain.series import Series, group_text
from services.alerting.domain.unsettled import Unsettled
from services.alerting.domain.window import Group, Put, TrailingWindow
from shared.clock import SECOND
from shared.messages import MetricUpdate


@dataclass(slots=True)
class Held:
    """A group's state as stored: `version` of its row, and the offset up to which updates are decided."""

    state: RuleState = field(default_factory=RuleState)
    version: int = 0
    decided_to: int = 0


class RuleWatch:
    """Applies updates and decides; knows neither Kafka nor Postgres. `shape` None: the metric is not known."""

    def __init__(self, rule: Rule, shape: MetricShape | None) -> None:
        self.rule = rule
        self.held: dict[Group, Held] = {}
        self._overflowed = False
        self._slots: dict[Group, int] = {}
        self._unsettled = Unsettled()
        self.reshape(shape)

    def reshape(self, shape: MetricShape | None) -> None:
        """Begins with an empty window on another version of the metric."""
        self._shape = shape
        self._aggregation, self.problem = _readable(self.rule, shape)
        self._window = TrailingWindow(self.rule.window, sketched=needs_sketch(self._aggregation))
        self._unsettled.clear()

    def inherit(self, earlier: RuleWatch) -> None:
        """Goes on with the window of an earlier version of the rule, if that is the window of this one.

        What is kept of a metric apart from its rules is bounded, and may hold less than the window did.
        """
        same = self.rule.watches_the_same(earlier.rule) and self._shape == earlier._shape
        if same and earlier.rule.enabled and self.problem is None:
            self._window, self._unsettled, self._overflowed = earlier._window, earlier._unsettled, earlier._overflowed

    @property
    def overflowed(self) -> bool:
        """Whether there were more groups than one rule follows."""
        return self._overflowed

    def apply(self, series: Series, update: MetricUpdate, elapsed: int = 0) -> Group | None:
        """The group to decide on now; None if nothing is new, or if more of the same commit is to come.

        `elapsed`: a monotonic clock's µs; 0 while what was missed is read.
        """
        if self.problem is not None or self._shape is None or update.version != self._shape.version:
            return None
        part, raw = series.component, series.group
        if self._shape.type == "journey":
            if part != "outcome" or not raw or raw[0] is None:
                return None
            part, raw = raw[0], raw[1:]
        elif self._shape.type == "value" and is_share(self._aggregation):
            if part != "share" or not raw or raw[0] != self._aggregation:
                return None
            raw = raw[1:]
        elif self._shape.type == "value" and part != "value":
            return None
        group = self._selected(raw)
        if group is None:
            return None
        put = self._window.put(group, part, update)
        self._overflowed = self._overflowed or put is Put.TOO_MANY_GROUPS
        if put is not Put.NEWER:
            return None
        return self._settled(group, series, update, elapsed)

    def _settled(self, group: Group, series: Series, update: MetricUpdate, elapsed: int) -> Group | None:
        assert self._shape is not None, "checked by the caller"
        waits_for = (series.group, update.window_start, update.shard)
        if self._shape.type == "journey" or (self._shape.type == "ratio" and series.component == "numerator"):
            self._unsettled.mark(group, waits_for, published_at=update.published_at, elapsed=elapsed)
        else:
            self._unsettled.settle(group, waits_for)
        return None if group in self._unsettled else group

    def before(self, update: MetricUpdate, now: int) -> list[Group]:
        """Groups to decide on at `now`, before `update` is applied: what was due without it."""
        return self._due(self._unsettled.overtaken(update.published_at), now)

    def pass_time(self, now: int, elapsed: int) -> list[Group]:
        """Groups to decide on at `now` although no update came."""
        return self._due(self._unsettled.overdue(elapsed), now)

    def skip(self, update: MetricUpdate) -> None:
        """Takes note that whatever was due before `update` is decided."""
        self._unsettled.overtaken(update.published_at)

    def _due(self, settled: list[Group], now: int) -> list[Group]:
        moved = self.advance(now)
        return list(dict.fromkeys((*settled, *(group for group in moved if group not in self._unsettled))))

    def advance(self, now: int) -> list[Group]:
        """Moves the window on; the groups that time may have changed something for, in the order of their names.

        A restarted process has met them in another order, and must decide in the same.
        """
        moved = self._window.advance(now)
        waiting = [
            group
            for group, held in self.held.items()
            if held.state.status is Status.PENDING
            or (held.state.critical_since is not None and held.state.level is Level.WARNING)
        ]
        if moved is None and not self.rule.every:
            return sorted(waiting, key=group_text)
        open_ones = [group for group, held in self.held.items() if held.state.status is not Status.OK]
        unchecked = self._window.groups() if self.rule.every else ()
        if self._slots and moved is not None:
            present = {*unchecked, *open_ones}
            self._slots = {group: slot for group, slot in self._slots.items() if group in present}
        return sorted({*(moved or ()), *waiting, *open_ones, *unchecked}, key=group_text)

    def everything(self) -> list[Group]:
        """All groups that have data or a state, in the order of their names."""
        return sorted({*self._window.groups(), *self.held}, key=group_text)

    def reading(self, group: Group) -> Value | None:
        """The value at present; None while the metric cannot be read."""
        if self.problem is not None or self._shape is None:
            return None
        extremes = self._aggregation in ("min", "max")
        return read(self._shape, self._aggregation, self._window.totals(group, extremes=extremes))

    def decide(self, group: Group, now: int) -> RuleDecision | None:
        """None while there is nothing to decide on: disabled, unreadable, or checked in this interval already."""
        if not self.rule.enabled:
            return None
        if self.rule.every:
            slot = now // self.rule.every
            if self._slots.get(group) == slot:
                return None
            self._slots[group] = slot
        seen = self.reading(group)
        if seen is None:
            return None
        return self.decide_again(group, seen, now)

    def decide_again(self, group: Group, seen: Value, now: int) -> RuleDecision:
        """The same look at another state: that which another process has stored meanwhile."""
        return rule_machine.decide(self.rule, self.state(group), seen, now)

    def end(self, group: Group, reason: Reason, now: int) -> RuleDecision:
        return rule_machine.end(self.state(group), reason, now)

    def state(self, group: Group) -> RuleState:
        held = self.held.get(group)
        return RuleState() if held is None else held.state

    def key(self, group: Group) -> StateKey:
        return StateKey(self.rule.organisation, "rule", self.rule.key, group_text(group))

    def named(self, group: Group) -> dict[str, str | None]:
        """Path → text."""
        if self.rule.group is not None:
            return dict(self.rule.group)
        paths = () if self._shape is None else self._shape.group_by
        return dict(zip(paths, group, strict=False))

    def change(self, group: Group, decision: RuleDecision, now: int, occasion: Occasion) -> Change | None:
        """What is to be stored; None if the decision leaves all as it is."""
        before, after = self.state(group), decision.state
        if before == after:
            return None
        moved = (before.status, before.level) != (after.status, after.level)
        evidence = self._evidence(group, decision, occasion)
        return Change(
            key=self.key(group),
            definition_version=self.rule.version,
            status=_named(after),
            state=msgspec.to_builtins(after),
            since=after.since,
            transition=Transition(
                from_state=_named(before),
                to_state=_named(after),
                reason=decision.reason.value,
                at=now,
                evidence=evidence,
            )
            if moved
            else None,
            alert=self._alert(group, before, decision, evidence),
        )

    def _selected(self, raw: Group) -> Group | None:
        """The rule's group that a series belongs to: itself, the one that `group` selects, or none."""
        if self.rule.group is None:
            return raw
        assert self._shape is not None, "checked by the caller"
        found = dict(zip(self._shape.group_by, raw, strict=False))
        return () if all(found.get(path) == text for path, text in self.rule.group.items()) else None

    def _evidence(self, group: Group, decision: RuleDecision, occasion: Occasion) -> dict[str, Any]:
        rule, seen = self.rule, decision.seen
        level = decision.state.level or self.state(group).level
        return {
            "rule": rule.key,
            "metric": rule.metric,
            "aggregation": self._aggregation,
            "value": None if seen.value is None else float(seen.value),
            "n": seen.n,
            "window_seconds": rule.window // SECOND,
            "direction": rule.direction,
            "threshold": None if level is None else _plain(rule.threshold(level)),
            "reason": decision.reason.value,
            **({"group": self.named(group)} if group or rule.group else {}),
            **({"labels": dict(rule.labels)} if rule.labels else {}),
            **occasion.evidence(),
        }

    def _alert(
        self, group: Group, before: RuleState, decision: RuleDecision, evidence: Mapping[str, Any]
    ) -> AlertChange | None:
        action = _ACTIONS.get(decision.reason)
        if action is None or (action == "resolve" and before.status is not Status.FIRING):
            return None
        rule, after = self.rule, decision.state
        worst = (before if action == "resolve" else after).worst or Level.WARNING
        level = before.level if action == "resolve" else after.level
        assert level is not None, "an alert has a level"
        return AlertChange(
            action=action,
            incident=after.incident,
            severity=level.severity,
            alert_type=rule.alert_type,
            title=rule.title or self._title(group),
            message=rule.message if rule.message and action != "resolve" else self._sentence(decision, level),
            notify=rule.notify.channels(worst),
            runbook_url=rule.runbook_url,
            dashboard_url=rule.dashboard_url,
            data=evidence,
        )

    def _title(self, group: Group) -> str:
        of = f" ({', '.join(str(text) for text in group)})" if group else ""
        return f"{self.rule.metric}{of}: {self._aggregation} out of bounds"

    def _sentence(self, decision: RuleDecision, level: Level) -> str:
        rule, seen = self.rule, decision.seen
        name = f"{rule.key}.{rule.metric}"
        if decision.reason is Reason.DISABLED:
            return f"{name}: the rule was disabled"
        if decision.reason is Reason.DEFINITION_CHANGED:
            return f"{name}: the rule was changed"
        if seen.value is None:
            return f"{name} has no data any more"
        value = f"{float(seen.value):g}"
        if decision.reason is Reason.RECOVERED:
            return f"{name} is {value} again, within its thresholds"
        side = "reaching" if rule.direction == "above" else "below"
        threshold = float(rule.threshold(level) or 0)
        return f"{name} is {value}, {side} the {level.severity} threshold of {threshold:g} (n = {seen.n})"


_ACTIONS: Mapping[Reason, AlertAction] = {
    Reason.TRIGGERED: "trigger",
    Reason.ESCALATED: "update",
    Reason.EASED: "update",
    Reason.RECOVERED: "resolve",
    Reason.NO_DATA: "resolve",
    Reason.DISABLED: "resolve",
    Reason.DEFINITION_CHANGED: "resolve",
}


def _named(state: RuleState) -> str:
    return state.level.severity if state.level is not None else state.status.value


def _plain(threshold: Decimal | None) -> float | None:
    return None if threshold is None else float(threshold)


def _readable(rule: Rule, shape: MetricShape | None) -> tuple[str, Unreadable | None]:
    if shape is None:
        return "", Unreadable.UNKNOWN_METRIC
    aggregation = aggregation_of(shape, rule.aggregation)
    if isinstance(aggregation, Unreadable):
        return "", aggregation
    if any(path not in shape.group_by for path in _paths(rule)):
        return "", Unreadable.GROUP
    return aggregation, None


def _paths(rule: Rule) -> Iterable[str]:
    return rule.group or ()

"""A breaker at work: the streak it watches, its state, and what each decision changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from services.alerting.domain import breaker_machine
from services.alerting.domain.breaker import Breaker
from services.alerting.domain.breaker_machine import BreakerDecision, BreakerState, Position, Reason
from services.alerting.domain.change import AlertAction, AlertChange, Change, Occasion, StateKey, Transition
from services.alerting.domain.metric import MetricShape, Unreadable
from services.alerting.domain.series import Series
from services.alerting.domain.streak import Streak, Streaks
from shared.clock import SECOND, to_iso
from shared.messages import MetricUpdate, Switch

ALERT_TYPE = "circuit_breaker"


class BreakerWatch:
    """Applies updates and decides; knows neither Kafka nor Postgres. `shape` None: the metric is not known.

    `version` is that of the stored state (0: none yet), `decided_to` the offset up to which updates are decided.
    """

    def __init__(self, breaker: Breaker, shape: MetricShape | None, state: BreakerState) -> None:
        self.breaker = breaker
        self.state = state
        self.version = 0
        self.decided_to = 0
        self.reshape(shape)

    def reshape(self, shape: MetricShape | None) -> None:
        """Begins without a streak on another version of the metric."""
        self._shape = shape
        self.problem = _problem(self.breaker, shape)
        self._streaks = Streaks()

    @property
    def streak(self) -> Streak:
        return self._streaks.merged()

    @property
    def key(self) -> StateKey:
        return StateKey(self.breaker.organisation, "breaker", self.breaker.key)

    def apply(self, series: Series, update: MetricUpdate) -> bool:
        """Whether the update told something new."""
        if self.problem is not None or self._shape is None or update.version != self._shape.version:
            return False
        if series.component != "streak" or not self._selects(series):
            return False
        return self._streaks.put(series.group, update)

    def decide(self, now: int) -> BreakerDecision:
        return breaker_machine.decide(self.breaker, self.state, self.streak, now)

    def change(self, decision: BreakerDecision, now: int, occasion: Occasion, **more: Any) -> Change | None:
        """What is to be stored; None if the decision leaves all as it is. `more` is added to the evidence."""
        if decision.state == self.state:
            return None
        before, after = self.state, decision.state
        evidence = self._evidence(decision, occasion) | more
        return Change(
            key=self.key,
            definition_version=self.breaker.version,
            status=after.position.value,
            state=msgspec.to_builtins(after),
            since=after.since,
            transition=Transition(
                from_state=before.position.value,
                to_state=after.position.value,
                reason=decision.reason.value,
                at=now,
                evidence=evidence,
            ),
            alert=self._alert(decision, evidence),
            switch=None if before.position is after.position else self._switch(after, now, evidence),
        )

    def creation(self, now: int) -> Change:
        """The first state of a breaker that has none stored: what happened before `now` does not count."""
        state = BreakerState(since=now, after=now, enabled=self.breaker.enabled)
        return Change(
            key=self.key,
            definition_version=self.breaker.version,
            status=state.position.value,
            state=msgspec.to_builtins(state),
            since=now,
        )

    def _selects(self, series: Series) -> bool:
        if self.breaker.group is None:
            return True
        assert self._shape is not None, "checked by the caller"
        found = dict(zip(self._shape.group_by, series.group, strict=False))
        return all(found.get(path) == text for path, text in self.breaker.group.items())

    def _evidence(self, decision: BreakerDecision, occasion: Occasion) -> dict[str, Any]:
        streak = decision.streak
        return {
            "breaker": self.breaker.key,
            "metric": self.breaker.metric,
            "flag": self.breaker.flag,
            **({} if self.breaker.variant is None else {"variant": self.breaker.variant}),
            "state": decision.state.position.value,
            "reason": decision.reason.value,
            "failures": decision.failures,
            "threshold": self.breaker.failure_threshold,
            "attempts": decision.state.attempts,
            "recovery_attempts": self.breaker.recovery_attempts,
            "timeout_ms": self.breaker.timeout // 1_000,
            "last_failure_at": to_iso(streak.failures[-1]) if streak.failures else None,
            "last_success_at": to_iso(streak.latest_success) if streak.latest_success else None,
            **({"labels": dict(self.breaker.labels)} if self.breaker.labels else {}),
            **occasion.evidence(),
        }

    def _switch(self, state: BreakerState, now: int, evidence: Mapping[str, Any]) -> Switch:
        admit = (0, 0)
        if state.position is Position.HALF_OPEN:
            admit = self.breaker.probes(state.probes - 1)
        return Switch(
            organisation=self.breaker.organisation,
            flag=self.breaker.flag,
            variant=self.breaker.variant,
            cause=self.breaker.cause,
            off=state.position is not Position.CLOSED,
            decided_at=now,
            admit_from=admit[0],
            admit_to=admit[1],
            evidence=dict(evidence),
        )

    def _alert(self, decision: BreakerDecision, evidence: Mapping[str, Any]) -> AlertChange | None:
        action = _ACTIONS.get(decision.reason)
        if action is None or (action == "resolve" and self.state.position is Position.CLOSED):
            return None
        breaker = self.breaker
        own = breaker.message if decision.reason is Reason.OPENED else None
        return AlertChange(
            action=action,
            incident=decision.state.incident,
            severity="critical",
            alert_type=ALERT_TYPE,
            title=breaker.title or f"Circuit breaker {breaker.key} is open",
            message=own or self._sentence(decision),
            notify=breaker.notify,
            runbook_url=breaker.runbook_url,
            dashboard_url=breaker.dashboard_url,
            data=evidence,
        )

    def _sentence(self, decision: BreakerDecision) -> str:
        breaker = self.breaker
        off = f"{breaker.flag} ({breaker.variant})" if breaker.variant else breaker.flag
        wait = f"{breaker.timeout / SECOND:g} s"
        match decision.reason:
            case Reason.OPENED:
                failures = f"{decision.failures} consecutive failures of {breaker.metric}"
                return f"{failures}: {off} is off, next probe in {wait}"
            case Reason.GIVEN_UP:
                return f"{decision.state.attempts} probes failed: {off} stays off until the breaker is closed by hand"
            case Reason.RECOVERED:
                return f"a probe succeeded: {off} is on again"
            case Reason.DISABLED | Reason.DEFINITION_CHANGED:
                return f"the breaker was changed: {off} is no longer held off by it"
            case _:
                return f"closed by hand: {off} is on again"


_ACTIONS: Mapping[Reason, AlertAction] = {
    Reason.OPENED: "trigger",
    Reason.GIVEN_UP: "update",
    Reason.RECOVERED: "resolve",
    Reason.CLOSED_BY_HAND: "resolve",
    Reason.RESTORED_BY_HAND: "resolve",
    Reason.DISABLED: "resolve",
    Reason.DEFINITION_CHANGED: "resolve",
}


def _problem(breaker: Breaker, shape: MetricShape | None) -> Unreadable | None:
    if shape is None:
        return Unreadable.UNKNOWN_METRIC
    if shape.type != "streak":
        return Unreadable.NO_STREAK
    if any(path not in shape.group_by for path in breaker.group or ()):
        return Unreadable.GROUP
    if shape.length < breaker.failure_threshold:
        return Unreadable.TOO_SHORT
    return None

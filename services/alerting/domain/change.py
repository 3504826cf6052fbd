"""What a decision changes, as one value: the new state, its transition, the alert and the switch that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from shared.messages import Switch

Kind = Literal["rule", "breaker", "builtin"]
AlertAction = Literal["trigger", "update", "resolve"]


class StateKey(NamedTuple):
    """Names a state machine. `group` is the JSON array of a rule's group, else empty."""

    organisation: str
    kind: Kind
    key: str
    group: str = ""

    @property
    def alert_key(self) -> str:
        if self.kind == "builtin":
            return self.key
        return f"{self.kind}:{self.key}:{self.group}" if self.group else f"{self.kind}:{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A step of a state machine that people are told of; `at` in microseconds of the heartbeat clock."""

    from_state: str
    to_state: str
    reason: str
    at: int
    evidence: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertChange:
    """`trigger` opens the alert of a new incident, `update` changes an open one, `resolve` ends it.

    `notify`: the channels that hear of it, None for all of the organisation.
    """

    action: AlertAction
    incident: int
    severity: Literal["info", "warning", "error", "critical"]
    alert_type: str
    title: str
    message: str
    notify: tuple[str, ...] | None = None
    runbook_url: str | None = None
    dashboard_url: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A machine's new state with all that follows from it; stored together or not at all."""

    key: StateKey
    definition_version: int
    status: str
    state: Mapping[str, Any]
    since: int
    transition: Transition | None = None
    alert: AlertChange | None = None
    switch: Switch | None = None


@dataclass(frozen=True, slots=True)
class Occasion:
    """What made us look: the update (None: time passed, or a person asked), and how far the aggregator was behind."""

    published_at: int | None = None
    lag_ms: int = 0
    lag_records: int = 0

    def evidence(self) -> dict[str, Any]:
        seen: dict[str, Any] = {"lag_ms": self.lag_ms, "lag_records": self.lag_records}
        if self.published_at is not None:
            seen["update_published_at"] = self.published_at
        return seen

"""Threshold rules: what users write, checked.

A rule watches one aggregation of one metric over a trailing window. `above` crosses at value ≥ threshold, `below`
at value < threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum
from typing import Any, Literal

from services.alerting.domain.spec import MAX_MESSAGE, MAX_TITLE, Fields, check_key
from shared.clock import DAY, HOUR, MINUTE
from shared.definition_error import DefinitionError

_KNOWN = {
    "metric", "aggregation", "direction", "warning", "critical", "minimum_sample", "window", "for", "every", "group",
    "alert_type", "title", "message", "runbook_url", "dashboard_url", "labels", "notify", "enabled", "description",
}  # fmt: skip
_MAX_SAMPLE = 10**12


class Level(IntEnum):
    """How bad; the name in lower case is the alert's severity."""

    WARNING = 1
    CRITICAL = 2

    @property
    def severity(self) -> Literal["warning", "critical"]:
        return "critical" if self is Level.CRITICAL else "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Which channels hear of which level; None is every channel of the organisation."""

    warning: tuple[str, ...] | None = None
    critical: tuple[str, ...] | None = None

    def channels(self, worst: Level) -> tuple[str, ...] | None:
        """Of an incident that has been as bad as `worst`: whoever heard of it hears how it goes on."""
        if worst is Level.WARNING:
            return self.warning
        if self.warning is None or self.critical is None:
            return None
        return tuple(dict.fromkeys((*self.warning, *self.critical)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A checked rule of one version; durations in microseconds."""

    organisation: str
    key: str
    version: int
    metric: str
    aggregation: str | None
    direction: Literal["above", "below"]
    warning: Decimal | None
    critical: Decimal | None
    minimum_sample: int
    window: int
    hold: int
    """How long a threshold must stay crossed (`for`)."""
    every: int
    group: Mapping[str, str | None] | None
    alert_type: str
    title: str | None
    message: str | None
    runbook_url: str | None
    dashboard_url: str | None
    labels: Mapping[str, str]
    notify: Notify
    enabled: bool
    spec: Mapping[str, Any] = field(compare=False, repr=False)
    """As it was written."""

    def level_of(self, value: Decimal) -> Level | None:
        """The worst threshold that `value` crosses."""
        for level, threshold in ((Level.CRITICAL, self.critical), (Level.WARNING, self.warning)):
            if threshold is not None and (value >= threshold if self.direction == "above" else value < threshold):
                return level
        return None

    def threshold(self, level: Level) -> Decimal | None:
        return self.critical if level is Level.CRITICAL else self.warning

    def watches_the_same(self, other: Rule) -> bool:
        """Whether what one has found out still tells about the other."""
        mine = (self.metric, self.aggregation, self.direction, self.window, self.group)
        return mine == (other.metric, other.aggregation, other.direction, other.window, other.group)


def parse_rule(organisation: str, key: str, version: int, spec: object) -> Rule:
    """Raises DefinitionError, which names the faulty place."""
    check_key(key)
    fields = Fields(spec, _KNOWN)
    direction = fields.raw("direction")
    if direction not in ("above", "below"):
        raise fields.fault("direction", "must be above or below: on which side of the threshold it is bad")
    warning, critical = fields.threshold("warning"), fields.threshold("critical")
    if warning is None and critical is None:
        raise DefinitionError("spec", "needs warning, critical or both")
    if warning is not None and critical is not None:
        if direction == "above" and critical < warning:
            raise fields.fault("critical", "must not be less than warning, as the direction is above")
        if direction == "below" and critical > warning:
            raise fields.fault("critical", "must not be more than warning, as the direction is below")
    window = fields.duration("window", 2 * HOUR, least=MINUTE, most=DAY)
    if window % MINUTE:
        raise fields.fault("window", "must be whole minutes")
    fields.text("description", longest=MAX_MESSAGE)
    return Rule(
        organisation=organisation,
        key=key,
        version=version,
        metric=fields.key("metric"),
        aggregation=fields.text("aggregation", longest=50),
        direction=direction,
        warning=warning,
        critical=critical,
        minimum_sample=fields.integer("minimum_sample", 1, least=1, most=_MAX_SAMPLE),
        window=window,
        hold=fields.duration("for", 0, least=0, most=DAY),
        every=fields.duration("every", 0, least=0, most=DAY),
        group=fields.group("group"),
        alert_type=fields.text("alert_type", longest=100) or "threshold",
        title=fields.text("title", longest=MAX_TITLE),
        message=fields.text("message", longest=MAX_MESSAGE),
        runbook_url=fields.url("runbook_url"),
        dashboard_url=fields.url("dashboard_url"),
        labels=fields.labels("labels"),
        notify=_notify(fields),
        enabled=fields.flag("enabled", True),
        spec=fields.all,
    )


def _notify(fields: Fields) -> Notify:
    spec: Any = fields.raw("notify")
    if isinstance(spec, Mapping):
        levels = Fields(spec, {"warning", "critical"}, "spec.notify")
        # A level that is not named tells nobody: else naming one would mean everybody for the other.
        return Notify(warning=levels.channels("warning") or (), critical=levels.channels("critical") or ())
    channels = fields.channels("notify")
    return Notify(warning=channels, critical=channels)

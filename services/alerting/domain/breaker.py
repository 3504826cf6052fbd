"""Circuit breakers: what users write, checked. The defaults are those of the import platform that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from services.alerting.domain.spec import MAX_MESSAGE, MAX_TITLE, Fields, check_key
from shared.clock import DAY

BUCKETS = 1_000_000
_KNOWN = {
    "metric", "failure_threshold", "timeout_ms", "recovery_attempts", "flag", "variant", "probe_percentage", "group",
    "title", "message", "runbook_url", "dashboard_url", "labels", "notify", "enabled", "description",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """A checked breaker of one version; `timeout` in microseconds, `probe_buckets` out of 1,000,000."""

    organisation: str
    key: str
    version: int
    metric: str
    failure_threshold: int
    timeout: int
    recovery_attempts: int
    flag: str
    variant: str | None
    probe_buckets: int
    group: Mapping[str, str | None] | None
    """Which groups of the streak count, together; None: all."""
    title: str | None
    message: str | None
    runbook_url: str | None
    dashboard_url: str | None
    labels: Mapping[str, str]
    notify: tuple[str, ...] | None
    enabled: bool
    spec: Mapping[str, Any] = field(compare=False, repr=False)
    """As it was written."""

    @property
    def cause(self) -> str:
        """What its switches are filed under."""
        return f"breaker:{self.key}"

    def guards_the_same(self, other: Breaker) -> bool:
        """Whether the state of one is that of the other."""
        mine = (self.metric, self.group, self.flag, self.variant)
        return mine == (other.metric, other.group, other.flag, other.variant)

    def probes(self, number: int) -> tuple[int, int]:
        """The bucket range [from, to) that probe `number` (0, 1, …) admits: each time other units."""
        start = number % (BUCKETS // self.probe_buckets) * self.probe_buckets
        return start, start + self.probe_buckets


def parse_breaker(organisation: str, key: str, version: int, spec: object) -> Breaker:
    """Raises DefinitionError, which names the faulty place."""
    check_key(key)
    fields = Fields(spec, _KNOWN)
    fields.text("description", longest=MAX_MESSAGE)
    share = fields.number("probe_percentage", Decimal(10), above=Decimal(0), most=Decimal(100))
    buckets = share * (BUCKETS // 100)
    if buckets != int(buckets):
        raise fields.fault("probe_percentage", "may have at most four decimals: a bucket is 0.0001 %")
    return Breaker(
        organisation=organisation,
        key=key,
        version=version,
        metric=fields.key("metric"),
        failure_threshold=fields.integer("failure_threshold", 10, least=1, most=100),
        timeout=fields.integer("timeout_ms", 60_000, least=100, most=DAY // 1_000) * 1_000,
        recovery_attempts=fields.integer("recovery_attempts", 3, least=1, most=1_000),
        flag=fields.key("flag"),
        variant=fields.text("variant", longest=200),
        probe_buckets=int(buckets),
        group=fields.group("group"),
        title=fields.text("title", longest=MAX_TITLE),
        message=fields.text("message", longest=MAX_MESSAGE),
        runbook_url=fields.url("runbook_url"),
        dashboard_url=fields.url("dashboard_url"),
        labels=fields.labels("labels"),
        notify=fields.channels("notify"),
        enabled=fields.flag("enabled", True),
        spec=fields.all,
    )

"""The circuit breaker as the product sees it from outside, beside what the platform says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from statistics import median
from typing import Any


class FlagState(Enum):
    """What one user gets to see of a flag."""

    ON = "on"
    PROBE = "probe"
    """On for this user although it is off: the breaker is half-open."""
    OFF = "off"


@dataclass(frozen=True, slots=True)
class FlagAnswer:
    """`cause` says what holds the flag off, as far as the platform told."""

    state: FlagState
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class AcknowledgedOutcome:
    """The end of an import (`time`, µs since the epoch), acknowledged at the instant `at` (s, any clock)."""

    time: int
    failed: bool
    at: float


@dataclass(slots=True)
class Sightings:
    """A flag's answers one after another: the instants (s) of the first that differed from those before."""

    state: FlagState = FlagState.ON
    openings: list[float] = field(default_factory=list)
    closings: list[float] = field(default_factory=list)

    def saw(self, state: FlagState, at: float) -> None:
        """A probe sees an open breaker, too: it closes only when the flag is on for everybody."""
        was_on, is_on = self.state is FlagState.ON, state is FlagState.ON
        self.state = state
        if was_on and not is_on:
            self.openings.append(at)
        elif is_on and not was_on:
            self.closings.append(at)


@dataclass(frozen=True, slots=True)
class BreakerReport:
    """What the platform says. `closed_at` are the times (µs) at which it closed lately, oldest first."""

    state: str
    openings: int
    closings: int
    closed_at: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Valve:
    """The second act as it stands: the driver's sightings, the platform's report, the messages received."""

    seen_openings: int
    seen_closings: int
    report: BreakerReport
    kill_latencies_ms: tuple[float, ...]
    messages: Mapping[str, int]
    """Channel → messages that arrived there."""
    wanted_openings: int
    """The run is a failure with fewer."""

    @property
    def kill_latency_ms(self) -> Mapping[str, float | None]:
        """Median and maximum, None without an opening."""
        known = self.kill_latencies_ms
        if not known:
            return {"p50": None, "max": None}
        return {"p50": round(median(known), 1), "max": round(max(known), 1)}

    def to_json(self) -> dict[str, Any]:
        return {
            "breaker": {"openings": self.report.openings, "closed": self.report.closings},
            "kill_latency_ms": dict(self.kill_latency_ms),
            "alerts": dict(self.messages),
        }


def decided_at(outcomes: Iterable[AcknowledgedOutcome], *, since: int, threshold: int) -> float | None:
    """The instant at which the acknowledged events first held `threshold` failures in a row; None if never.

    In a row by the time at which the imports ended: later than `since` (µs) and than any success acknowledged so
    far. `outcomes` in the order of their acknowledgements.
    """
    latest_success = since
    failures: list[int] = []
    for outcome in outcomes:
        if outcome.time <= latest_success:
            continue
        if outcome.failed:
            failures.append(outcome.time)
        else:
            latest_success = outcome.time
            failures = [time for time in failures if time > latest_success]
        if len(failures) >= threshold:
            return outcome.at
    return None


def kill_latencies_ms(
    outcomes: Iterable[AcknowledgedOutcome], sightings: Sightings, closed_at: Iterable[int], *, threshold: int
) -> tuple[float, ...]:
    """From the acknowledgement of each deciding failure to the first answer that had changed, in milliseconds.

    An acknowledgement that arrived after the changed answer counts as 0. Openings that the acknowledged events do
    not explain have no latency: what the platform took without an acknowledgement has no instant.
    """
    in_order = sorted(outcomes, key=lambda outcome: outcome.at)
    since = [0, *closed_at]
    latencies = []
    for number, seen in enumerate(sightings.openings):
        if number >= len(since):
            break
        at = decided_at(in_order, since=since[number], threshold=threshold)
        if at is not None:
            latencies.append(max(0.0, 1000 * (seen - at)))
    return tuple(latencies)

"""One trip of the breaker as moments, and many of them as figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table

from bench.results import Figure

BENCH = "killpath"
SYSTEM = "tidegate"

_MILLISECOND = 1_000


@dataclass(frozen=True, slots=True)
class Trip:
    """Microseconds since the epoch, all by this machine's clock; `lag_ms` is what the switch's evidence says."""

    sent_at: int
    """The request with the deciding failure leaves."""
    answered_at: int
    """Ingest has answered it: Kafka has the event."""
    published_at: int
    """The aggregator publishes the update that decides."""
    switched_at: int
    """Kafka has taken alerting's switch, to the millisecond: its `decided_at` is of the clock of rules, which follows
    the aggregator's heartbeats and so cannot be compared with the others."""
    changed_at: int
    """The first changed answer has arrived."""
    lag_ms: float


PARTS: dict[str, Callable[[Trip], int]] = {
    "event_to_changed_answer": lambda trip: trip.changed_at - trip.sent_at,
    "answered_event_to_changed_answer": lambda trip: trip.changed_at - trip.answered_at,
    "ingest_answer": lambda trip: trip.answered_at - trip.sent_at,
    "fold_commit_publish": lambda trip: trip.published_at - trip.answered_at,
    "alerting": lambda trip: trip.switched_at - trip.published_at,
    "apply": lambda trip: trip.changed_at - trip.switched_at,
}
"""Name → microseconds. The last four add up to the first. `fold_commit_publish` may be negative: the aggregator may
have the event before ingest's answer has come back."""
WHOLE = next(iter(PARTS))


@dataclass(frozen=True, slots=True)
class Round:
    """All trips at one background load; `rate` was asked for, `accepted_per_s` is what ingest accepted meanwhile."""

    rate: int
    accepted_per_s: float
    trips: Sequence[Trip]

    @property
    def workload(self) -> str:
        return f"{self.rate}/s"

    def quantile(self, part: str, q: float) -> float:
        """In milliseconds."""
        return nearest_rank([PARTS[part](trip) for trip in self.trips], q) / _MILLISECOND


@dataclass(frozen=True, slots=True)
class KillPath:
    """What the benchmark found, one round for each load."""

    rounds: Sequence[Round]

    def figures(self) -> list[Figure]:
        return [figure for each in self.rounds for figure in _figures(each)]

    def table(self, title: str) -> Table:
        """Totals, then the median of each part."""
        notes = (
            "Milliseconds from sending the deciding event to the first changed answer.\n"
            "The parts are medians. ingest: until its answer; fold: until the update\n"
            "that decides; alerting: until Kafka has the switch; apply: until the\n"
            "changed answer. --json also has the other quantiles and the load's rate."
        )
        shown = Table(title=title, title_justify="left", caption=notes, caption_justify="left")
        for heading in ("background", "trips", "p50", "p99", "max"):
            shown.add_column(heading, justify="right", no_wrap=True)
        for heading in ("ingest", "fold", "alerting", "apply"):
            shown.add_column(heading, justify="right", no_wrap=True)
        for each in self.rounds:
            totals = (each.quantile(WHOLE, q) for q in (0.5, 0.99, 1))
            parts = (each.quantile(part, 0.5) for part in list(PARTS)[2:])
            shown.add_row(
                each.workload,
                str(len(each.trips)),
                *(f"{value:,.0f}" for value in (*totals, *parts)),
            )
        return shown


def nearest_rank(values: Sequence[int], q: float) -> int:
    """The smallest value that at least the share `q` of all values does not exceed. `values` holds at least one."""
    return sorted(values)[max(math.ceil(q * len(values)) - 1, 0)]


def _figures(each: Round) -> list[Figure]:
    named = [
        (f"{part}_{name}_ms", round(each.quantile(part, q), 3), "ms")
        for part in PARTS
        for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1))
    ]
    named += [
        ("lag_max_ms", max(trip.lag_ms for trip in each.trips), "ms"),
        ("background_accepted_per_s", round(each.accepted_per_s, 1), "events/s"),
        ("trips", len(each.trips), "trips"),
    ]
    return [Figure(BENCH, each.workload, SYSTEM, metric, value, unit) for metric, value, unit in named]

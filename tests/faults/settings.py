"""How much is thrown at the stack, and from which seed. Only the fixtures hand in the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Severity:
    """How often each fault happens, how long outages last in seconds, and how much is sent."""

    events: int
    worker_kills: int
    worker_restarts: int
    worker_pauses: int
    postgres_kills: int
    kafka_kills: int
    kafka_pauses: int
    others: int
    """Rounds of killing every other process, and of pausing one of them."""
    restarts: int
    """Rounds of ending every other process, Kafka and Postgres too, as `tidegate down` does."""
    partitions: int
    """Of each kind: all connections to Postgres cut, the way to it down, a black hole."""
    commit_cuts: int
    postgres_away: float
    kafka_away: float
    """Seconds for which Kafka is away while clients go on sending."""
    ingest_kills: int
    """While clients go on sending."""
    groups: int
    requests: int
    """Requests whose bytes are wrong."""
    far_ends: float
    """Seconds that sources are read while their far ends die again and again; 0: not at all."""
    far_end_kills_every: float
    """Seconds in which each far end dies once."""


SHORT = Severity(
    events=50_000,
    worker_kills=2,
    worker_restarts=1,
    worker_pauses=1,
    postgres_kills=1,
    kafka_kills=1,
    kafka_pauses=1,
    others=1,
    restarts=0,
    partitions=1,
    commit_cuts=6,
    postgres_away=8,
    kafka_away=5,
    ingest_kills=3,
    groups=10_000,
    requests=800,
    far_ends=0,  # tests/integration/sources has the short form
    far_end_kills_every=6,
)
LONG = Severity(
    events=1_000_000,
    worker_kills=20,
    worker_restarts=3,
    worker_pauses=3,
    postgres_kills=5,
    kafka_kills=3,
    kafka_pauses=2,
    others=2,
    restarts=1,
    partitions=3,
    commit_cuts=50,
    postgres_away=300,
    kafka_away=600,
    ingest_kills=20,
    groups=1_000_000,
    requests=10_000,
    far_ends=600,
    far_end_kills_every=30,
)


@dataclass(frozen=True, slots=True)
class FaultSettings:
    """`TIDEGATE_FAULTS` (short, long), and `TIDEGATE_FAULTS_…` (EVENTS, SEED, FAR_ENDS, REQUESTS), all optional."""

    severity: Severity
    events: int
    seed: int
    far_ends: float
    requests: int

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        severity = {"short": SHORT, "long": LONG}[environ.get("TIDEGATE_FAULTS", "short")]
        events = int(environ.get("TIDEGATE_FAULTS_EVENTS", severity.events))
        far_ends = float(environ.get("TIDEGATE_FAULTS_FAR_ENDS", severity.far_ends))
        requests = int(environ.get("TIDEGATE_FAULTS_REQUESTS", severity.requests))
        return cls(severity, events, int(environ.get("TIDEGATE_FAULTS_SEED", "1")), far_ends, requests)

"""Which fault comes when: drawn from the seed, with one worker at first, three in the middle, and one in the end."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable

from tests.faults.faults import (
    AllAtOnce,
    BlackHole,
    CommitCuts,
    Death,
    Disconnection,
    Fault,
    Partition,
    Pause,
    Rebalance,
)
from tests.faults.proxy import Cut
from tests.faults.settings import Severity
from tests.faults.site import Site

LONGER_THAN_A_SESSION = 12.0
"""Seconds: the group has given a stopped worker's partitions away when it wakes up. Its time-out is 10."""
_MANY = 3
_CUTS_AT_ONCE = 5
_ON_THE_WAY = ("gateway", "ingest")
_ASIDE = ("assignment", "aggregator-api", "alerting")
"""Processes through which no event comes: they die while a worker is paused."""

Planned = Callable[[], Fault]
"""Makes the fault when its time has come: its victim is chosen among the workers that run then."""


def schedule(site: Site, severity: Severity, seed: int) -> list[Planned]:
    """Every fault that the severity asks for, in an order of its own for each seed."""
    rng = random.Random(seed)
    alone = (
        _kills_of_workers(site, severity, rng) + _kills_of_others(site, severity, rng) + _ways(site, severity, rng)
    )
    pauses = [_pause(site, rng, others=n < severity.others) for n in range(severity.worker_pauses)]
    rng.shuffle(alone)
    third = len(alone) // 3
    # Most pauses fall into the time of three workers: then somebody else has gone on with the partitions.
    among_many = [*alone[third : 2 * third], *pauses[: 1 + len(pauses) // 2]]
    in_the_end = [*alone[2 * third :], *pauses[1 + len(pauses) // 2 :]]
    rng.shuffle(among_many)
    rng.shuffle(in_the_end)
    return [*alone[:third], lambda: Rebalance(site, _MANY), *among_many, lambda: Rebalance(site, 1), *in_the_end]


def _kills_of_workers(site: Site, severity: Severity, rng: random.Random) -> list[Planned]:
    kills: list[Planned] = [lambda: Death(rng.choice(site.workers)) for _ in range(severity.worker_kills)]
    ends: list[Planned] = [
        lambda: Death(rng.choice(site.workers), signal.SIGTERM) for _ in range(severity.worker_restarts)
    ]
    return kills + ends


def _kills_of_others(site: Site, severity: Severity, rng: random.Random) -> list[Planned]:
    postgres, kafka = site.victim("postgres"), site.victim("kafka")
    found: list[Planned] = [lambda: Death(postgres) for _ in range(severity.postgres_kills)]
    found += [lambda: Death(kafka) for _ in range(severity.kafka_kills)]
    found += [lambda: Pause(kafka, 4.0) for _ in range(severity.kafka_pauses)]
    for _ in range(severity.others):
        found += [_deaths(site, name) for name in _ON_THE_WAY]
        found.append(lambda: Pause(site.victim(rng.choice((*_ON_THE_WAY, *_ASIDE))), 2.0))
    for _ in range(severity.restarts):
        found += [_deaths(site, name, signal.SIGTERM) for name in (*_ON_THE_WAY, *_ASIDE, "kafka")]
        found.append(_deaths(site, "postgres", signal.SIGINT))  # at SIGTERM it would wait for its clients to go
    return found


def _pause(site: Site, rng: random.Random, *, others: bool) -> Planned:
    """Of a worker, longer than its session lasts."""

    def made() -> Fault:
        pause = Pause(rng.choice(site.workers), LONGER_THAN_A_SESSION)
        return AllAtOnce([pause, *(Death(site.victim(name)) for name in _ASIDE)]) if others else pause

    return made


def _deaths(site: Site, name: str, how: signal.Signals = signal.SIGKILL) -> Planned:
    return lambda: Death(site.victim(name), how)


def _ways(site: Site, severity: Severity, rng: random.Random) -> list[Planned]:
    """What happens between the workers and Postgres."""
    found: list[Planned] = []
    for _ in range(severity.partitions):
        found += [
            lambda: Disconnection(site.proxy),
            lambda: Partition(site.proxy, 2.0),
            lambda: BlackHole(site.proxy, 3.0),
        ]
    cuts = [list(Cut)[n % len(Cut)] for n in range(severity.commit_cuts)]
    rng.shuffle(cuts)
    found += [_cuts(site, cuts[at : at + _CUTS_AT_ONCE]) for at in range(0, len(cuts), _CUTS_AT_ONCE)]
    return found


def _cuts(site: Site, cuts: list[Cut]) -> Planned:
    return lambda: CommitCuts(site.proxy, cuts)

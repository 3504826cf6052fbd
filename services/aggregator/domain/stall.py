"""When a worker has stalled: it lives, is able to work, has work, and does none.

Only time counts in which the watcher itself ran (a stopped process did nothing wrong), and for shards only time in
which Kafka and Postgres answered: waiting for either is no stall.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LOOP_LIMIT = 30.0
SHARD_LIMIT = 60.0
"""Seconds. A fold of a full batch takes tenths of one."""


@dataclass(frozen=True, slots=True)
class ShardPulse:
    """`lag`: records that the brokers have and the shard has not folded. `signs`: rises with all that it does."""

    lag: int
    signs: int


@dataclass(frozen=True, slots=True)
class Pulse:
    """`turns` rises while the event loop runs, `answers` with each round in which Kafka and Postgres answered."""

    turns: int
    answers: int
    shards: Mapping[int, ShardPulse]


@dataclass(frozen=True, slots=True)
class LoopStall:
    seconds: float

    def __str__(self) -> str:
        return f"the event loop has not run for {self.seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class ShardStall:
    shard: int
    lag: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"shard {self.shard} has {self.lag} records to fold and has done nothing for {self.seconds:.0f} s, "
            "while Kafka and Postgres answer"
        )


Stall = LoopStall | ShardStall


class StallWatch:
    """Compares pulses. Seconds of standing still add up until there is a sign of life."""

    def __init__(self, *, loop_limit: float = LOOP_LIMIT, shard_limit: float = SHARD_LIMIT) -> None:
        self._loop_limit = loop_limit
        self._shard_limit = shard_limit
        self._turns = -1
        self._answers = 0
        self._still = 0.0
        self._signs: dict[int, int] = {}
        self.stalled: dict[int, float] = {}
        """Shard → seconds for which it has had records and done nothing."""

    def observe(self, pulse: Pulse, ran: float) -> Stall | None:
        """`ran`: seconds since the pulse before, as far as the watcher was running."""
        self._still = 0.0 if pulse.turns != self._turns else self._still + ran
        self._turns = pulse.turns
        if self._still >= self._loop_limit:
            return LoopStall(self._still)
        answered, self._answers = pulse.answers != self._answers, pulse.answers
        before, self.stalled = self.stalled, {}
        for shard, life in pulse.shards.items():
            alive = life.lag <= 0 or life.signs != self._signs.get(shard)
            self.stalled[shard] = 0.0 if alive else before.get(shard, 0.0) + (ran if answered else 0.0)
        self._signs = {shard: life.signs for shard, life in pulse.shards.items()}
        for shard, seconds in self.stalled.items():
            if seconds >= self._shard_limit:
                return ShardStall(shard, pulse.shards[shard].lag, seconds)
        return None

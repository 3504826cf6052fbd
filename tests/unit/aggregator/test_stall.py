"""What counts as a stall, and what only looks like one."""

from __future__ import annotations

from services.aggregator.domain.stall import LoopStall, Pulse, ShardPulse, ShardStall, StallWatch


class World:
    """A worker as its watchdog sees it, second by second."""

    def __init__(self) -> None:
        self.watch = StallWatch(loop_limit=30, shard_limit=60)
        self.turns = self.answers = 0
        self.shards = {0: ShardPulse(lag=0, signs=0), 1: ShardPulse(lag=0, signs=0)}

    def seconds(
        self, count: int, *, loop: bool = True, answered: bool = True, busy: bool = False, ran: float = 1.0
    ) -> LoopStall | ShardStall | None:
        """The first stall within so many looks. `busy`: shard 0 does something in each."""
        for _ in range(count):
            self.turns += loop
            self.answers += loop and answered
            if busy:
                self.shards[0] = ShardPulse(self.shards[0].lag, self.shards[0].signs + 1)
            stall = self.watch.observe(Pulse(self.turns, self.answers, dict(self.shards)), ran)
            if stall is not None:
                return stall
        return None


def test_a_worker_without_work_never_stalls() -> None:
    assert World().seconds(1_000) is None


def test_a_shard_that_has_records_and_does_nothing_for_a_minute_has_stalled() -> None:
    world = World()
    world.seconds(5)
    world.shards[1] = ShardPulse(lag=17, signs=0)
    assert world.seconds(59) is None
    assert world.watch.stalled == {0: 0.0, 1: 59.0}
    assert world.seconds(1) == ShardStall(shard=1, lag=17, seconds=60.0)


def test_a_shard_that_folds_or_tries_again_has_not_stalled_however_far_behind_it_is() -> None:
    world = World()
    world.shards[0] = ShardPulse(lag=10**9, signs=0)
    assert world.seconds(1_000, busy=True) is None


def test_a_sign_of_life_forgives_what_was_before_it() -> None:
    world = World()
    world.shards[0] = ShardPulse(lag=1, signs=0)
    world.seconds(55)
    assert world.seconds(1, busy=True) is None
    assert world.seconds(59) is None
    assert world.seconds(1) is not None


def test_a_shard_that_has_caught_up_starts_afresh() -> None:
    world = World()
    world.shards[0] = ShardPulse(lag=1, signs=0)
    world.seconds(55)
    world.shards[0] = ShardPulse(lag=0, signs=0)
    world.seconds(1)
    world.shards[0] = ShardPulse(lag=1, signs=0)
    assert world.seconds(59) is None


def test_waiting_for_kafka_or_postgres_is_no_stall() -> None:
    world = World()
    world.shards[0] = ShardPulse(lag=1, signs=0)
    assert world.seconds(1_000, answered=False) is None


def test_a_shard_that_is_no_longer_ours_is_forgotten() -> None:
    world = World()
    world.shards[0] = ShardPulse(lag=1, signs=0)
    world.seconds(55)
    shard = world.shards.pop(0)
    world.seconds(1)
    world.shards[0] = shard
    assert world.seconds(59) is None


def test_a_loop_that_does_not_run_for_half_a_minute_has_stalled() -> None:
    world = World()
    world.seconds(5)
    assert world.seconds(29, loop=False) is None
    assert world.seconds(1, loop=False) == LoopStall(30.0)


def test_a_loop_that_runs_now_and_then_has_not_stalled() -> None:
    world = World()
    for _ in range(20):
        assert world.seconds(25, loop=False) is None
        assert world.seconds(1) is None


def test_a_process_that_was_stopped_for_an_hour_is_not_ended_when_it_wakes() -> None:
    world = World()
    world.shards[0] = ShardPulse(lag=1, signs=0)
    world.seconds(5)
    # The watcher reports what it ran itself: one look, of at most two seconds, spans the hour.
    assert world.seconds(1, loop=False, ran=2.0) is None
    assert world.watch.stalled[0] < 10

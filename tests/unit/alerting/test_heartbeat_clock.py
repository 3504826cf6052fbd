"""The clock that rules and breakers go by, and when the aggregator counts as silent."""

from __future__ import annotations

import pytest

from services.alerting.domain.heartbeat_clock import AHEAD, HeartbeatClock
from services.alerting.domain.silence import LIMIT, Reason, SilenceState, change_of, decide
from shared.clock import DAY, SECOND
from shared.messages import Heartbeat
from tests.unit.alerting.scenes import NOW


def clock(*shards: int, of: int = 2) -> HeartbeatClock:
    """At elapsed 0 each of `shards` was heard of, a second apart in time."""
    made = HeartbeatClock(elapsed=0)
    for shard in shards:
        made.hear(beat(shard, NOW + shard * SECOND, shards=of), now=NOW, elapsed=0)
    return made


def beat(shard: int, time: int, *, lag: int = 0, shards: int = 2) -> Heartbeat:
    return Heartbeat(shard=shard, next_offset=1, watermark=time, time=time, lag=lag, shards=shards)


def test_there_is_no_time_before_every_shard_is_heard() -> None:
    assert HeartbeatClock(elapsed=0).now(0) is None
    assert clock(0).now(0) is None
    assert clock(0, 1).now(0) == NOW


@pytest.mark.parametrize(("elapsed", "passed"), [(0, 0), (SECOND, SECOND), (2 * SECOND, 2 * SECOND), (9 * SECOND, 2)])
def test_it_goes_on_by_itself_for_two_seconds(elapsed: int, passed: int) -> None:
    assert clock(0, 1).now(elapsed) == NOW + (2 * SECOND if passed == 2 else passed)


def test_it_is_the_time_of_the_slowest_shard() -> None:
    made = clock(0, 1)
    made.hear(beat(1, NOW + 60 * SECOND), now=NOW, elapsed=SECOND)
    assert made.now(SECOND) == NOW + SECOND


def test_it_never_goes_back() -> None:
    made = clock(0, 1)
    reached = made.now(2 * SECOND)
    made.hear(beat(0, NOW - 60 * SECOND), now=NOW, elapsed=2 * SECOND)
    assert made.now(2 * SECOND) == reached


def test_an_aggregator_whose_clock_is_far_ahead_is_not_believed() -> None:
    made = clock(0, 1)
    for shard in (0, 1):
        made.hear(beat(shard, NOW + DAY), now=NOW, elapsed=0)
    assert made.now(0) == NOW + AHEAD


def test_lag_is_told_in_records_and_milliseconds() -> None:
    made = clock(0, 1)
    made.hear(beat(0, NOW - 3 * SECOND, lag=7), now=NOW, elapsed=0)
    made.hear(beat(1, NOW - 9 * SECOND), now=NOW, elapsed=0)
    assert (made.lag_records, made.lag_ms) == (7, 3_000)


@pytest.mark.parametrize(("elapsed", "silent"), [(LIMIT - 1, ()), (LIMIT, (0, 1))])
def test_a_shard_is_silent_after_thirty_seconds(elapsed: int, silent: tuple[int, ...]) -> None:
    assert clock(0, 1).silent(elapsed, LIMIT) == silent


def test_a_shard_that_was_never_heard_is_silent_since_the_start() -> None:
    assert HeartbeatClock(elapsed=SECOND).silent(LIMIT, LIMIT) == ()
    assert HeartbeatClock(elapsed=SECOND).silent(LIMIT + SECOND, LIMIT) == (0,)
    made = clock(0)
    made.hear(beat(0, NOW), now=NOW, elapsed=LIMIT)
    assert made.silent(LIMIT, LIMIT) == (1,)


@pytest.mark.parametrize(("behind", "silent"), [(5 * SECOND, (0, 1)), (5 * SECOND + 1, (0,))])
def test_shards_that_fell_quiet_within_five_seconds_are_named_together(behind: int, silent: tuple[int, ...]) -> None:
    made = clock(0, 1)
    made.hear(beat(1, NOW), now=NOW, elapsed=behind)
    assert made.silent(LIMIT - 1, LIMIT) == ()
    assert made.silent(LIMIT, LIMIT) == silent


QUIET, SILENT = SilenceState(), SilenceState(silent=True, since=NOW, incident=1)


@pytest.mark.parametrize(
    ("state", "shards", "watched", "reason"),
    [
        (QUIET, (), True, Reason.HEARD),
        (QUIET, (), False, Reason.NOBODY_WATCHES),
        (QUIET, (1,), False, Reason.NOBODY_WATCHES),
        (QUIET, (1,), True, Reason.FELL_SILENT),
        (SILENT, (1,), True, Reason.STILL_SILENT),
        (SILENT, (), True, Reason.RESUMED),
        (SILENT, (1,), False, Reason.RESUMED),
    ],
)
def test_silence_matters_where_somebody_watches(
    state: SilenceState, shards: tuple[int, ...], watched: bool, reason: Reason
) -> None:
    assert decide(state, shards, watched=watched, now=NOW).reason is reason


def test_silence_is_an_incident_that_ends() -> None:
    fell = decide(QUIET, (0, 2), watched=True, now=NOW)
    change = change_of("acme", QUIET, fell, NOW)
    assert change is not None
    assert change.alert is not None
    assert (change.alert.action, change.alert.severity, change.alert.incident) == ("trigger", "critical", 1)
    assert change.key.alert_key == "aggregator:silent"
    back = change_of("acme", fell.state, decide(fell.state, (), watched=True, now=NOW), NOW)
    assert back is not None
    assert back.alert is not None
    assert (back.alert.action, back.alert.incident) == ("resolve", 1)
    assert change_of("acme", fell.state, decide(fell.state, (0,), watched=True, now=NOW), NOW) is None

"""Killing by hand when Kafka answers late, badly or not at all."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError
from prometheus_client import CollectorRegistry

from services.assignment.domain.switches import Switchboard
from services.assignment.switches import Change, Switches, Target
from shared.kafka import ReplicaStoppedError
from shared.messages import Switch
from shared.topics import Topic

TARGET = Target("default", "f")


class Log:
    """A topic in memory, and its copy: what is published is applied when the copy catches up."""

    def __init__(self) -> None:
        self.records: list[Switch] = []
        self.reader: Switches | None = None
        self.applied = 0
        self.answering = asyncio.Event()
        self.answering.set()
        self.fault: Exception | None = None
        self.copy_fault: Exception | None = None

    async def publish(self, topic: Topic[Switch], message: Switch, *, deadline: float = 10) -> tuple[int, int]:
        await self.answering.wait()
        if self.fault is not None:
            raise self.fault
        self.records.append(topic.decode(topic.encode(message)))
        return 0, len(self.records) - 1

    async def catch_up(self) -> int:
        if self.copy_fault is not None:
            raise self.copy_fault
        assert self.reader is not None
        for record in self.records[self.applied :]:
            self.reader.apply(record)
        self.applied = len(self.records)
        return 0


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def switches(log: Log, registry: CollectorRegistry) -> Switches:
    made = Switches(Switchboard(), log, lambda: 2_000_000, registry, patience=0.05)
    log.reader = made
    made.follow(log)
    return made


async def kill(switches: Switches) -> Change:
    return await switches.kill(TARGET, by="prefix", reason=None)


async def restore(switches: Switches, cause: str = "manual") -> Change:
    return await switches.restore(TARGET, cause, by="prefix", reason="all is well")


async def test_what_was_switched_is_in_force_when_the_answer_comes(switches: Switches, log: Log) -> None:
    assert await kill(switches) is Change.DONE
    hold = switches.board.hold("default", "f")
    assert hold is not None
    assert [(off.cause, off.evidence) for off in hold.offs] == [("manual", {"by": "prefix"})]
    assert await restore(switches) is Change.DONE
    assert switches.board.hold("default", "f") is None
    assert log.records[-1].evidence == {"by": "prefix", "reason": "all is well"}


async def test_restoring_what_is_not_off_publishes_nothing(switches: Switches, log: Log) -> None:
    assert await restore(switches) is Change.NOTHING_TO_DO
    await kill(switches)
    assert await restore(switches, "breaker:b") is Change.NOTHING_TO_DO
    assert len(log.records) == 1


async def test_a_kill_that_this_process_has_not_seen_yet_is_restored(switches: Switches, log: Log) -> None:
    log.records.append(Switch(organisation="default", flag="f", cause="manual", off=True, decided_at=1))
    assert await restore(switches) is Change.DONE
    assert switches.board.hold("default", "f") is None


@pytest.mark.parametrize("fault", [KafkaConnectionError(), ReplicaStoppedError("stopped"), TimeoutError()])
async def test_without_a_current_copy_it_is_published_all_the_same(
    switches: Switches, log: Log, fault: Exception
) -> None:
    log.copy_fault = fault
    assert await restore(switches) is Change.DONE
    assert await kill(switches) is Change.DONE
    assert [record.off for record in log.records] == [False, True]


async def test_when_kafka_hangs_the_outcome_is_unknown_and_what_arrives_later_counts(
    switches: Switches, log: Log
) -> None:
    log.answering.clear()
    assert await kill(switches) is Change.UNKNOWN
    assert switches.board.hold("default", "f") is None
    log.answering.set()
    while not log.records:
        await asyncio.sleep(0)
    await log.catch_up()
    assert switches.board.hold("default", "f") is not None


async def test_kafkas_errors_reach_the_caller_and_its_time_outs_are_unknown(switches: Switches, log: Log) -> None:
    log.fault = KafkaConnectionError()
    with pytest.raises(KafkaConnectionError):
        await kill(switches)
    log.fault = TimeoutError()
    assert await kill(switches) is Change.UNKNOWN


async def test_only_what_comes_after_the_start_is_timed(log: Log, registry: CollectorRegistry) -> None:
    switches = Switches(Switchboard(), log, lambda: 2_000_000, registry)
    log.reader = switches
    old = Switch(organisation="default", flag="f", cause="manual", off=True, decided_at=1)
    switches.apply(old)
    switches.follow(log)

    def value(name: str) -> float | None:
        return registry.get_sample_value(f"tidegate_assignment_{name}")

    assert (value("switch_seconds_count"), value("switches_off")) == (0, 1)
    for decided_at in (1_750_000, 3_000_000):  # the second by a clock that is ahead of ours
        switches.apply(Switch(organisation="default", flag="f", cause="manual", off=False, decided_at=decided_at))
    assert (value("switch_seconds_count"), value("switch_seconds_sum"), value("switches_off")) == (2, 0.25, 0)


@pytest.mark.parametrize("decided_at", [-1, 10**18, 10**400])
async def test_a_switch_of_a_time_that_no_calendar_holds_is_skipped(
    switches: Switches, log: Log, decided_at: int
) -> None:
    await kill(switches)
    for off in (True, False):
        switches.apply(Switch(organisation="default", flag="f", cause="manual", off=off, decided_at=decided_at))
    hold = switches.board.hold("default", "f")
    assert hold is not None
    assert [(off.cause, off.since) for off in hold.offs] == [("manual", 2_000_000)]

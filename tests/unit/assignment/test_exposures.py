from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError
from prometheus_client import CollectorRegistry

from services.assignment.exposures import Exposures
from shared.messages import Event
from shared.topics import Topic


class Log:
    """A Kafka that fails as often as it is told, and waits while it is blocked."""

    def __init__(self, *, failures: int = 0) -> None:
        self.events: list[Event] = []
        self.open = asyncio.Event()
        self.open.set()
        self._failures = failures

    async def publish(self, topic: Topic[Event], message: Event, *, deadline: float = 10) -> tuple[int, int]:
        await self.open.wait()
        if self._failures:
            self._failures -= 1
            raise KafkaConnectionError("away")
        self.events.append(message)
        return 0, len(self.events) - 1


def exposure(number: int) -> Event:
    return Event(organisation="o", event_id=f"e{number}", event_type="experiment_exposure", time=1, received_at=1)


async def test_an_exposure_is_repeated_until_kafka_has_it() -> None:
    log = Log(failures=1)
    task = Exposures(log, CollectorRegistry()).deliver(exposure(1))
    assert task is not None
    await task
    assert [e.event_id for e in log.events] == ["e1"]


async def test_no_more_exposures_wait_than_there_is_room_for() -> None:
    log, registry = Log(), CollectorRegistry()
    log.open.clear()
    exposures = Exposures(log, registry, capacity=2)
    assert exposures.deliver(exposure(1)) is not None
    assert exposures.deliver(exposure(2)) is not None
    assert exposures.deliver(exposure(3)) is None
    assert registry.get_sample_value("tidegate_assignment_exposures_pending") == 2
    assert registry.get_sample_value("tidegate_assignment_exposures_refused_total") == 1
    log.open.set()
    await exposures.drain()
    assert [e.event_id for e in log.events] == ["e1", "e2"]
    assert exposures.deliver(exposure(4)) is not None
    await exposures.drain()


async def test_shutting_down_ends_although_kafka_stays_away() -> None:
    log = Log()
    log.open.clear()
    exposures = Exposures(log, CollectorRegistry())
    task = exposures.deliver(exposure(1))
    await exposures.drain(seconds=0.01)
    assert task is not None
    with pytest.raises(asyncio.CancelledError):
        await task

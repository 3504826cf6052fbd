"""Processes agree on the keys that hash, and forget those that are past."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.ingest.domain.quality.hash_period import Rotation, period_of
from services.ingest.quality.hash_key_log import LINGER, REMINDER
from shared.clock import DAY, SECOND
from shared.sealing import Sealer, new_sealing_key
from shared.topics import HASH_KEYS
from tests.unit.ingest.quality.rules import SEALING_KEY, KeyTopic, Process

NOON = 1_795_348_800_000_000
"""2026-11-22T12:00:00Z"""
MIDNIGHT = NOON + DAY // 2


class World:
    def __init__(self) -> None:
        self.now = NOON
        self.topic = KeyTopic()

    def process(self, name: str = "one", *keys: str) -> Process:
        return Process(self.topic, Sealer([*keys, SEALING_KEY]), lambda: self.now, name)

    def periods(self) -> list[str]:
        """Of the keys on the topic once Kafka has tidied up."""
        self.topic.compact()
        return sorted(message.period for _, message in self.topic.records if message is not None)


@pytest.fixture
def world() -> World:
    return World()


def hashed(process: Process, time: int, rotation: Rotation = Rotation.DAY) -> str | None:
    hasher = process.log.hasher("acme", rotation, time)
    return None if hasher is None else hasher.hashed("ada@example.com")


async def test_two_processes_that_make_a_key_at_once_hash_alike(world: World) -> None:
    world.topic.held = True
    one, two = world.process("one"), world.process("two")

    looks = asyncio.gather(one.log.look(), two.log.look())
    while len(world.topic.records) < 2:
        await asyncio.sleep(0)
    world.topic.release()
    await looks

    assert hashed(one, NOON) == hashed(two, NOON) is not None
    assert hashed(world.process("later"), NOON) == hashed(one, NOON)


async def test_a_restarted_process_hashes_as_before_and_after_compaction_too(world: World) -> None:
    await world.process().log.look()
    before = hashed(world.process(), NOON)

    world.topic.compact()

    assert hashed(world.process(), NOON) == before is not None


async def test_at_the_end_of_a_period_the_next_key_is_there_and_is_another(world: World) -> None:
    process = world.process()
    await process.log.look()

    last, first = hashed(process, MIDNIGHT - 1), hashed(process, MIDNIGHT)

    assert last is not None
    assert first is not None
    assert last != first
    assert hashed(process, NOON) == last
    assert hashed(process, MIDNIGHT + DAY - 1) == first


async def test_a_key_that_is_past_is_gone_from_memory_and_from_the_topic(world: World) -> None:
    process = world.process()
    await process.log.look()
    assert world.periods() == ["2026-11-22", "2026-11-23", "never"]

    world.now = MIDNIGHT + LINGER
    await process.log.look()
    assert hashed(process, NOON) is not None

    world.now += SECOND
    await process.log.look()

    assert hashed(process, NOON) is None
    assert process.forgotten == ["acme"]
    assert world.periods() == ["2026-11-23", "2026-11-24", "never"]
    assert hashed(world.process("later"), NOON) is None


async def test_a_removal_is_repeated_so_that_kafka_tidies_up_and_then_no_more(world: World) -> None:
    process = world.process()
    await process.log.look()
    world.now = MIDNIGHT + LINGER + SECOND
    removals = []

    for _ in range(4):
        await process.log.look()
        removals.append(sum(message is None for _, message in world.topic.records))
        world.now += REMINDER

    assert removals == [1, 2, 2, 2]


async def test_what_never_rotates_keeps_its_key(world: World) -> None:
    process = world.process()
    process.wanted = {"acme": {Rotation.NEVER}}
    await process.log.look()
    before = hashed(process, NOON, Rotation.NEVER)

    world.now += 1_000 * DAY
    await process.log.look()
    world.topic.compact()

    assert hashed(world.process("later"), world.now, Rotation.NEVER) == before is not None


async def test_keys_are_sealed_anew_and_the_first_one_still_holds(world: World) -> None:
    world.topic.held = True
    looks = asyncio.gather(world.process("one").log.look(), world.process("two").log.look())
    while len(world.topic.records) < 2:
        await asyncio.sleep(0)
    world.topic.release()
    await looks
    before = hashed(world.process(), NOON)
    newer = new_sealing_key()

    await world.process("three", newer).log.look()
    world.topic.compact()

    only_newer = Process(world.topic, Sealer([newer]), lambda: world.now, "four")
    assert hashed(only_newer, NOON) == before is not None
    assert hashed(only_newer, MIDNIGHT) == hashed(world.process("five", newer), MIDNIGHT) is not None


async def test_with_a_wrong_sealing_key_nothing_is_hashed_and_no_other_key_is_made(world: World) -> None:
    await world.process().log.look()
    records = len(world.topic.records)

    stranger = Process(world.topic, Sealer([new_sealing_key()]), lambda: world.now, "stranger")
    await stranger.log.look()

    assert hashed(stranger, NOON) is None
    assert len(world.topic.records) == records


async def test_without_kafka_there_is_no_key_and_once_it_is_back_there_is(world: World) -> None:
    world.topic.down = True
    process = world.process()
    running = asyncio.create_task(process.log.run())
    try:
        await asyncio.sleep(0)
        assert hashed(process, NOON) is None
        world.topic.down = False
        async with asyncio.timeout(10):
            while hashed(process, NOON) is None:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_clock_that_is_set_back_behind_a_key_that_was_forgotten_ends_nothing(world: World) -> None:
    process = world.process()
    await process.log.look()
    world.now = MIDNIGHT + LINGER + SECOND
    await process.log.look()
    process.wanted.clear()
    world.now = NOON

    await process.log.look()

    assert (hashed(process, NOON), hashed(process, MIDNIGHT) is None) == (None, False)


async def test_whatever_goes_wrong_the_next_key_is_made(world: World) -> None:
    process = world.process()
    failures = [ValueError("a fault of ours")]

    class Faulty(dict[str, set[Rotation]]):
        def items(self) -> Any:
            if failures:
                raise failures.pop()
            return super().items()

    process.wanted = Faulty(process.wanted)
    running = asyncio.create_task(process.log.run())
    try:
        async with asyncio.timeout(10):
            while hashed(process, NOON) is None:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_no_key_stands_on_the_topic_as_it_is(world: World) -> None:
    await world.process().log.look()

    for _, message in world.topic.records:
        assert message is not None
        opened = Sealer([SEALING_KEY]).open(f"hash-key/acme/{message.period}", message.sealed)["key"]
        assert opened.encode() not in HASH_KEYS.encode(message)
    assert period_of(Rotation.DAY, NOON).name in {message.period for _, message in world.topic.records if message}

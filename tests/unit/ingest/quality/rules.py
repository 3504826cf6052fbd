"""Intake rules on a service in memory, with a log of keys that hash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from services.ingest.domain.quality.hash_keys import KEY_BYTES, Hasher, HashKeys
from services.ingest.domain.quality.hash_period import Rotation, period_of
from services.ingest.quality.hash_key_log import HashKeyLog
from services.ingest.quality.inspections import Inspections
from services.ingest.quality.intake_rules import IntakeRules
from shared.messages import HashKey
from shared.sealing import Sealer, new_sealing_key
from shared.topics import HASH_KEYS, Topic


class FixedKeys:
    """One key for each period, made of the period's name. `missing`: there are none."""

    def __init__(self) -> None:
        self.missing = False

    def hasher(self, organisation: str, rotation: Rotation, time: int) -> Hasher | None:
        keys = HashKeys()
        for period in {"never", period_of(rotation, time).name}:
            keys.learn(organisation, period, "1", f"{organisation} {period}".ljust(KEY_BYTES).encode())
        return None if self.missing else keys.hasher(organisation, period_of(rotation, time).name)

    def wake(self) -> None:
        """There is nobody to wake."""


def put_rules(inspections: Inspections, rules: Mapping[str, Mapping[str, Any]]) -> FixedKeys:
    """In force for organisation `acme`."""
    keys = FixedKeys()
    known = IntakeRules(inspections)
    known.hash_with(keys)
    for key, spec in rules.items():
        known.learn("acme", key, spec)
    return keys


class KeyTopic:
    """`hash-keys.v1` in memory: what is published reaches every follower, in order, unless they are `held` back."""

    def __init__(self) -> None:
        self.records: list[tuple[str, HashKey | None]] = []
        self.followers: list[Callable[[HashKey], None]] = []
        self.held = False
        self.down = False

    async def publish(self, topic: Topic[HashKey], message: HashKey) -> tuple[int, int]:
        await asyncio.sleep(0)
        if self.down:
            raise TimeoutError
        self.records.append((HASH_KEYS.key(message), message))
        if not self.held:
            for follower in self.followers:
                follower(message)
        return 0, len(self.records) - 1

    async def remove(self, topic: Topic[HashKey], message: HashKey) -> None:
        self.records.append((HASH_KEYS.key(message), None))

    def release(self) -> None:
        """Followers hear everything, from the beginning."""
        self.held = False
        for follower in self.followers:
            self.replay(follower)

    def replay(self, follower: Callable[[HashKey], None]) -> None:
        for _, message in self.records:
            if message is not None:
                follower(message)

    def compact(self) -> None:
        """As Kafka does when all is old: of each key the last record, in order, and no removals."""
        last = {key: index for index, (key, _) in enumerate(self.records)}
        self.records = [
            (key, message)
            for index, (key, message) in enumerate(self.records)
            if last[key] == index and message is not None
        ]


class Process:
    """What one process knows of the keys."""

    def __init__(self, topic: KeyTopic, sealer: Sealer | None, now: Callable[[], int], name: str) -> None:
        self.wanted: dict[str, set[Rotation]] = {"acme": {Rotation.DAY}}
        self.forgotten: list[str] = []
        numbers = iter(range(1_000))
        self.log = HashKeyLog(
            topic, sealer, now, lambda: f"{name}-{next(numbers)}", lambda: self.wanted, self.forgotten.append
        )
        topic.replay(self.log.learn)
        topic.followers.append(self.log.learn)


SEALING_KEY = new_sealing_key()

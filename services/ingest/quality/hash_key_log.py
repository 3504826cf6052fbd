"""The keys that hash, kept on their topic: all processes agree on them without asking anybody else.

    missing ──► each that misses it proposes one ──► the first in the log holds ──► past ──► removed from the log

The key of the period to come is made ahead. Keys are sealed: whoever reads the topic alone hashes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from aiokafka.errors import KafkaError

from services.ingest.domain.quality.hash_keys import KEY_BYTES, Hasher, HashKeys
from services.ingest.domain.quality.hash_period import Period, Rotation, period_of, present_and_next
from shared.clock import HOUR, MINUTE, Clock
from shared.messages import HashKey
from shared.sealing import Sealer, SealError
from shared.topics import HASH_KEYS, Topic

logger = logging.getLogger(__name__)

LINGER = 10 * MINUTE
"""So long after its end a period's key stays: clocks of processes differ."""
REMINDER = 2 * HOUR
"""So long after a key was removed it is removed again: Kafka only tidies up what is followed by something."""
_LOOK_SECONDS = 30.0
_RETRY_SECONDS = 1.0
_KEY = "key"

Wanted = Callable[[], Mapping[str, Collection[Rotation]]]
"""Organisation → how often the keys change that its rules take."""


class KeyPublisher(Protocol):
    """`shared.kafka.Publisher`. Both raise KafkaError or TimeoutError."""

    async def publish(self, topic: Topic[HashKey], message: HashKey) -> tuple[int, int]: ...

    async def remove(self, topic: Topic[HashKey], message: HashKey) -> None: ...


class HashKeyLog:
    """Feed `learn` with the topic from its beginning, and `run` beside it. `new_id` names proposed keys."""

    def __init__(
        self,
        publisher: KeyPublisher,
        sealer: Sealer | None,
        clock: Clock,
        new_id: Callable[[], str],
        wanted: Wanted,
        on_forgotten: Callable[[str], None],
    ) -> None:
        self._publisher = publisher
        self._sealer = sealer
        self._clock = clock
        self._new_id = new_id
        self._wanted = wanted
        self._on_forgotten = on_forgotten
        self._keys = HashKeys()
        self._records: dict[tuple[str, str], dict[str, HashKey]] = {}
        self._forgotten: dict[tuple[str, str], int] = {}
        self._learned = asyncio.Event()
        self._awake = asyncio.Event()

    @property
    def can_seal(self) -> bool:
        """Whether this installation has a key to seal others with, without which none is made."""
        return self._sealer is not None

    def learn(self, message: HashKey) -> None:
        """For `Replica`; bears repetition."""
        self._records.setdefault((message.organisation, message.period), {})[message.id] = message
        if not self._is_past(message):
            self._keys.learn(message.organisation, message.period, message.id, self._opened(message))
            self._learned.set()

    def hasher(self, organisation: str, rotation: Rotation, time: int) -> Hasher | None:
        """For what arrives at `time` (microseconds UTC); None while a key is missing."""
        found = self._keys.hasher(organisation, period_of(rotation, time).name)
        if found is None:
            self._awake.set()
        return found

    def wake(self) -> None:
        """What is wanted has changed."""
        self._awake.set()

    async def ensure(self, organisation: str, rotations: Collection[Rotation]) -> None:
        """Returns when the keys for the present and the next period are decided on.

        Raises KafkaError or TimeoutError.
        """
        now = self._clock()
        for rotation in {Rotation.NEVER, *rotations}:
            for period in present_and_next(rotation, now):
                if not self._keys.has(organisation, period.name):
                    await self._propose(organisation, period)

    async def run(self) -> None:
        """Until it is cancelled: makes what will be missing and removes what is past."""
        while True:
            pause = _LOOK_SECONDS
            try:
                await self.look()
            except (KafkaError, TimeoutError) as error:
                logger.warning("keys that hash wait for Kafka", extra={"error": repr(error)})
                pause = _RETRY_SECONDS
            except Exception:  # without the next period's key all events would be refused
                logger.exception("keys that hash cannot be looked after")
                pause = _RETRY_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._awake.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(0.05)  # events that miss a key wake it many times
            self._awake.clear()

    async def look(self) -> None:
        """Once. Raises KafkaError or TimeoutError."""
        if self._sealer is None:
            return
        for organisation, rotations in self._wanted().items():
            if rotations:
                await self.ensure(organisation, rotations)
        for (organisation, period), records in list(self._records.items()):
            if self._is_past(next(iter(records.values()))):
                await self._forget(organisation, period)
            else:
                await self._seal_anew(self._sealer, organisation, period)

    async def _propose(self, organisation: str, period: Period) -> None:
        """Returns when our key or somebody else's holds."""
        if self._sealer is None:
            return
        key = urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        sealed = self._sealer.seal(_owner(organisation, period.name), {_KEY: key})
        message = HashKey(
            organisation=organisation, period=period.name, id=self._new_id(), until=period.end, sealed=sealed
        )
        await self._publisher.publish(HASH_KEYS, message)
        async with asyncio.timeout(10):
            while not self._keys.has(organisation, period.name):
                self._learned.clear()
                await self._learned.wait()

    async def _forget(self, organisation: str, period: str) -> None:
        name, now = (organisation, period), self._clock()
        since = self._forgotten.get(name)
        if since is not None and now - since < REMINDER:
            return
        self._keys.forget(organisation, period)
        self._on_forgotten(organisation)
        for record in list(self._records[name].values()):
            await self._publisher.remove(HASH_KEYS, record)
        if since is not None:
            del self._records[name], self._forgotten[name]
            return
        self._forgotten[name] = now
        logger.info("a key that hashed is forgotten", extra={"organisation": organisation, "period": period})

    async def _seal_anew(self, sealer: Sealer, organisation: str, period: str) -> None:
        """With the newest sealing key, after all that never held is gone: it must not come to be the first."""
        records = self._records[organisation, period]
        held = next(
            (record for record in records.values() if self._keys.holds(organisation, period, record.id)), None
        )
        if held is None or sealer.is_newest(held.sealed):  # a clock that was set back finds keys that were past
            return
        owner = _owner(organisation, period)
        try:
            value = sealer.open(owner, held.sealed)
        except SealError:
            return
        for record in list(records.values()):
            if record is not held:
                await self._publisher.remove(HASH_KEYS, record)
                del records[record.id]
        sealed = HashKey(
            organisation=organisation,
            period=period,
            id=held.id,
            until=held.until,
            sealed=sealer.seal(owner, value),
        )
        await self._publisher.publish(HASH_KEYS, sealed)
        records[held.id] = sealed

    def _is_past(self, key: HashKey) -> bool:  # a comparison of values
        return key.until + LINGER < self._clock()

    def _opened(self, message: HashKey) -> bytes | None:
        try:
            if self._sealer is None:
                raise SealError("TIDEGATE_SEALING_KEYS is not set")
            owner = _owner(message.organisation, message.period)
            return urlsafe_b64decode(self._sealer.open(owner, message.sealed)[_KEY])
        except (SealError, KeyError, ValueError) as error:
            extra = {"organisation": message.organisation, "period": message.period, "error": str(error)}
            logger.error("a key that hashes cannot be opened", extra=extra)
            return None


def _owner(organisation: str, period: str) -> str:
    return f"hash-key/{organisation}/{period}"

"""Dead letters: whose they are, and that none is left behind."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import KafkaError

from services.aggregator.dead_letters import organisation_of, publish_dead_letters
from shared.kafka import Publisher
from shared.messages import DeadLetter


@pytest.mark.parametrize(
    ("payload", "organisation"),
    [
        (b'{"organisation":"acme","time":-1}', "acme"),
        (b'{"organisation":"acme","time":1e400,"properties":[]}', "acme"),
        (b'{"organisation":"acme","properties":{"x":"\xff"}}', "acme"),
        (b'{"organisation":"acme"', ""),
        (b'{"organisation":"acme"} {}', ""),
        (b'{"organisation":7}', ""),
        (b'{"organisation":""}', ""),
        (b'{"organisation":"' + b"a" * 201 + b'"}', ""),
        (b'{"organisation":"a\\u0000b"}', ""),
        (b'{"organisation":"\\ud800"}', ""),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"organisation":"acme"}', ""),
        (b"\xff\xfe", ""),
        (b"", ""),
    ],
)
def test_a_broken_record_belongs_to_whom_it_names_if_that_can_be_read(payload: bytes, organisation: str) -> None:
    assert organisation_of(payload) == organisation


class RefusesNowAndThen(Publisher):
    """Each letter's first `refusals` attempts fail, with Kafka's errors and with time-outs in turn."""

    def __init__(self, refusals: int) -> None:
        super().__init__("")
        self._refusals = refusals
        self._attempts: dict[str, int] = {}
        self.taken: list[str] = []

    async def publish(self, topic: Any, message: Any, *, deadline: float = 10) -> tuple[int, int]:
        attempt = self._attempts[message.id] = self._attempts.get(message.id, 0) + 1
        if attempt <= self._refusals and int(message.id) % 2:
            raise KafkaError if attempt % 2 else TimeoutError
        self.taken.append(message.id)
        return 0, 0


async def test_every_letter_arrives_however_often_some_are_refused() -> None:
    publisher, waits = RefusesNowAndThen(3), 0

    async def wait_to_retry(error: BaseException) -> None:
        nonlocal waits
        assert isinstance(error, KafkaError | TimeoutError)
        waits += 1

    await publish_dead_letters(publisher, _letters(2_000), wait_to_retry)
    assert sorted(map(int, publisher.taken)) == list(range(2_000))
    assert waits > 0


async def test_what_is_no_refusal_of_kafkas_is_raised() -> None:
    class Broken(Publisher):
        async def publish(self, topic: Any, message: Any, *, deadline: float = 10) -> tuple[int, int]:
            raise RuntimeError("start() the publisher first")

    async def never(error: BaseException) -> None:
        raise AssertionError(error)

    with pytest.raises(RuntimeError):
        await publish_dead_letters(Broken(""), _letters(1), never)


def _letters(count: int) -> list[DeadLetter]:
    return [
        DeadLetter(id=str(i), organisation="", reason="empty", detail="", origin="kafka", received_at=0, payload=b"")
        for i in range(count)
    ]

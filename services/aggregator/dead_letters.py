"""Records that hold no event, as dead letters: published many at a time, none left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import msgspec
from aiokafka.errors import KafkaError

from services.aggregator.domain.batch import Rejected
from shared import topics
from shared.kafka import Publisher
from shared.messages import DeadLetter

MAX_PAYLOAD = 1_400_000
"""Bytes of a record that its dead letter quotes: base64 makes a third more, and Kafka takes two million."""
_AT_ONCE = 500


class _Owner(msgspec.Struct, gc=False):
    organisation: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


_OWNER = msgspec.json.Decoder(_Owner)


async def publish_dead_letters(
    publisher: Publisher, letters: Sequence[DeadLetter], wait_to_retry: Callable[[BaseException], Awaitable[None]]
) -> None:
    """Returns once Kafka has all of them, in any order; a letter whose answer was lost may be there twice.

    `wait_to_retry` is told of every refusal, and returns when it is time to try again.
    """
    left = list(letters)
    while left:
        now, left = left[:_AT_ONCE], left[_AT_ONCE:]
        answers = await asyncio.gather(
            *(publisher.publish(topics.DEAD_LETTERS, letter) for letter in now), return_exceptions=True
        )
        refusal: BaseException | None = None
        for letter, answer in zip(now, answers, strict=True):
            if isinstance(answer, KafkaError | TimeoutError):
                refusal = answer
                left.append(letter)
            elif isinstance(answer, BaseException):
                raise answer
        if refusal is not None:
            await wait_to_retry(refusal)


def dead_letter(topic: str, partition: int, rejected: Rejected) -> DeadLetter:
    """A record too large to be quoted whole is cut, and the letter says so: nothing else would let the log go on."""
    record, detail = rejected.record, rejected.detail
    payload = record.value or b""
    if len(payload) > MAX_PAYLOAD:
        detail = f"{detail} (payload: the first {MAX_PAYLOAD} of {len(payload)} bytes)"
    return DeadLetter(
        id=f"{topic}-{partition}-{record.offset}",
        organisation=organisation_of(payload),
        reason=rejected.reason.value,
        detail=detail,
        origin="kafka",
        partition=partition,
        offset=record.offset,
        received_at=record.broker_time,
        payload=payload[:MAX_PAYLOAD],
    )


def organisation_of(payload: bytes) -> str:
    """Whose broken record it is, as far as that can be read; else the empty text, which is nobody's."""
    try:
        organisation = _OWNER.decode(payload).organisation
        organisation.encode()
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    return "" if "\x00" in organisation else organisation

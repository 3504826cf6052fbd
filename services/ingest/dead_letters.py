"""Invalid events, as they were received, newest first."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Annotated, Any, Protocol

import msgspec
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from shared import strict_json
from shared.clock import to_iso
from shared.http import principal_of, unavailable
from shared.keys import Principal
from shared.topics import DEAD_LETTERS

logger = logging.getLogger(__name__)

PATH = "/api/v1/streaming-analytics/dead-letters"

MAX_LIMIT = 10_000
SEARCHED = 20_000
"""So many of the newest dead letters of all organisations are searched at most."""
SEARCHED_BYTES = 32 * 1024 * 1024
"""So large are they together at most: those that fill the topic must not fill the memory."""
_FIRST_LOOK = 200


class DeadLetterItem(BaseModel):
    id: str
    reason: str
    detail: str
    origin: str = Field(description="Where it came in: `http`, or the topic from which it was read")
    received_at: str
    partition: int | None = Field(description="Where it stands in the topic from which it was read")
    offset: int | None
    payload: Any = Field(default=None, description="What was received, if it is JSON that can be shown")
    payload_base64: str | None = Field(default=None, description="What was received, if it is not")


class DeadLetterList(BaseModel):
    items: list[DeadLetterItem]


class Records(Protocol):
    """`shared.kafka.Tail`."""

    async def read(self, per_partition: int) -> Iterable[ConsumerRecord]:
        """The newest records of each partition, in offset order. Raises KafkaError or TimeoutError."""


def dead_letter_routes(records: Records) -> APIRouter:
    router = APIRouter(tags=["dead letters"])

    @router.get(PATH, response_model=DeadLetterList, response_model_exclude_unset=True)
    async def list_dead_letters(
        principal: Annotated[Principal, Depends(principal_of)],
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
        reason: Annotated[str | None, Query(description="Only those refused for this reason")] = None,
    ) -> DeadLetterList:
        """The organisation's invalid events, newest first: `limit` of them, or fewer if they are large."""
        try:
            items = await _newest(records, principal.organisation, reason, limit)
        except (KafkaError, TimeoutError):
            raise unavailable("Kafka does not show the dead letters at the moment") from None
        return DeadLetterList(items=items)

    return router


async def _newest(records: Records, organisation: str, reason: str | None, limit: int) -> list[DeadLetterItem]:
    """Looks further and further back until it has found enough or there is no more."""
    depth = min(limit, _FIRST_LOOK)
    while True:
        found = _newest_within(SEARCHED_BYTES, list(await records.read(depth)))
        items = [item for record in found if (item := _item(record, organisation, reason)) is not None]
        if len(items) >= limit or len(found) < depth or depth >= SEARCHED:
            return items[:limit]
        depth = min(depth * 2, SEARCHED)


def _newest_within(size: int, records: Sequence[ConsumerRecord]) -> list[ConsumerRecord]:
    """Newest first, until their values are larger than `size` bytes."""
    sizes = accumulate(len(record.value) for record in reversed(records))
    return [record for record, total in zip(reversed(records), sizes, strict=True) if total <= size]


def _item(record: ConsumerRecord, organisation: str, reason: str | None) -> DeadLetterItem | None:
    try:
        letter = DEAD_LETTERS.decode(record.value)
    except msgspec.MsgspecError as error:
        logger.error("undecodable dead letter", extra={"offset": record.offset, "error": str(error)})
        return None
    if letter.organisation != organisation or reason not in (None, letter.reason):
        return None
    return DeadLetterItem(
        id=letter.id,
        reason=letter.reason,
        detail=letter.detail,
        origin=letter.origin,
        received_at=to_iso(letter.received_at),
        partition=letter.partition,
        offset=letter.offset,
        **_shown(letter.payload),
    )


def _shown(payload: bytes) -> dict[str, Any]:
    """JSON stays JSON; what an answer in JSON could not hold goes as base64."""
    try:
        return {"payload": strict_json.loads(payload)}
    except strict_json.InvalidJsonError:
        return {"payload_base64": base64.b64encode(payload).decode()}

"""What every product's handler gets, and what it gives back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from services.ingest.domain.batch_body import BatchFault, NoBatch
from services.ingest.domain.normalise import EventBody, Reason, Rejected
from services.ingest.domain.quality.aside import Verdict
from services.ingest.intake import EVENTS_PER_TURN, Given
from shared.http import Problem
from shared.keys import Principal, without_secrets

T = TypeVar("T")

Admit = Callable[[str | None], Principal]
"""Who presents the key and may send events. Raises Problem 401, 403 or 503."""

Read = Callable[[bytes], EventBody | Rejected]
"""One message's own bytes → what it says."""


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    query: Mapping[str, str]
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    received_at: int
    """Microseconds UTC."""
    principal: Principal | None
    """Who presented a key in a header."""
    admit: Admit

    def header(self, name: bytes) -> str | None:
        """`name` in lower case; of repeated ones the first holds."""
        return next((value.decode("latin-1") for found, value in self.headers if found == name), None)

    def sender(self, key: object = None) -> Principal:
        """Whose key a header holds, else whose `key` stands in the body. Raises Problem 401, 403 or 503."""
        return self.principal or self.admit(key if isinstance(key, str) else None)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Mapping[str, Any]


Handler = Callable[[Request], Awaitable[Answer]]

_READ_INLINE = 16 * 1024
"""Bytes of a body that is taken apart at once."""


async def read_aside(read: Callable[[bytes], T], body: bytes) -> T:
    """What `read` makes of the body. A hostile one takes a microsecond a byte, which others should not wait for."""
    return read(body) if len(body) <= _READ_INLINE else await asyncio.to_thread(read, body)


async def given(raws: Sequence[bytes], read: Read) -> list[Given]:
    """The messages as the intake takes them, without keys. Raises Problem 400 if one is no JSON: then nothing was."""
    messages: list[Given] = []
    for raw in raws:
        kept = without_secrets(raw)
        body = read(kept)
        if isinstance(body, Rejected) and body.reason is Reason.MALFORMED:
            raise Problem(400, body.reason.value, body.detail)
        messages.append((kept, body))
        if not len(messages) % EVENTS_PER_TURN:
            await asyncio.sleep(0)
    return messages


def unbatchable(fault: NoBatch) -> Problem:
    return Problem(400 if fault.fault is BatchFault.MALFORMED else 422, fault.fault.value, fault.detail)


def refused(rejected: Rejected) -> Problem:
    """The answer to a single message that is no event; it is a dead letter by now."""
    return Problem(422, rejected.reason.value, rejected.detail, extra={"event_id": rejected.event_id})


def rejections(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Which messages of a batch are invalid, and why; not those that only their organisation's rules keep away.

    Raises Problem 422 if all are.
    """
    found = [
        {"index": index, "event_id": verdict.event_id, "reason": verdict.reason.value, "detail": verdict.detail}
        for index, verdict in enumerate(verdicts)
        if isinstance(verdict, Rejected)
    ]
    if found and len(found) == len(verdicts):
        raise Problem(422, "no_event_accepted", "every event of the batch is invalid", extra={"rejected": found})
    return found

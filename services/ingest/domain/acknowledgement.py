"""What a client is told of its messages, in as few words as possible.

An acknowledgement settles its message and all before it: those that had nothing wrong need none of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.ingest.domain.normalise import Rejected
from services.ingest.domain.stream_frame import NoFrame
from shared.messages import Event

MAX_DETAIL_CHARACTERS = 200
"""A dead letter holds the whole of it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The connection's message number `message`, from 1, and what became of it."""

    message: int
    seq: int | None
    outcome: Sequence[Event | Rejected] | NoFrame


def acknowledgements(judged: Iterable[Judged]) -> Iterator[dict[str, Any]]:
    """In the order of the messages. `accepted` counts the events since the acknowledgement before."""
    last: Judged | None = None
    accepted = 0
    for message in judged:
        outcome = message.outcome
        if isinstance(outcome, NoFrame):
            refused = {"reason": outcome.fault.value, "detail": outcome.detail[:MAX_DETAIL_CHARACTERS]}
            said: dict[str, Any] = {"accepted": 0, "refused": refused}
        else:
            invalid = [_verdict(index, v) for index, v in enumerate(outcome) if isinstance(v, Rejected)]
            if not invalid:
                last = message
                accepted += len(outcome)
                continue
            said = {"accepted": len(outcome) - len(invalid), "invalid": invalid}
        if last is not None:
            yield _acknowledgement(last, {"accepted": accepted})
        last, accepted = None, 0
        yield _acknowledgement(message, said)
    if last is not None:
        yield _acknowledgement(last, {"accepted": accepted})


def _acknowledgement(of: Judged, said: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "ack", "message": of.message, "seq": of.seq, **said}


def _verdict(index: int, rejected: Rejected) -> dict[str, Any]:
    return {
        "index": index,
        "event_id": rejected.event_id,
        "reason": rejected.reason.value,
        "detail": rejected.detail[:MAX_DETAIL_CHARACTERS],
    }

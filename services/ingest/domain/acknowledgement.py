"""What a client is told of its messages, in as few words as possible.

An acknowledgement settles its message and all before it: those that had nothing wrong need none of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.ingest.domain.normalise import Rejected
from services.ingest.domain.quality.aside import SetAside, Status, Verdict
from services.ingest.domain.stream_frame import NoFrame
from shared.messages import Event

MAX_DETAIL_CHARACTERS = 200
"""A dead letter holds the whole of it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The connection's message number `message`, from 1, and what became of it."""

    message: int
    seq: int | None
    outcome: Sequence[Verdict] | NoFrame


def acknowledgements(judged: Iterable[Judged]) -> Iterator[dict[str, Any]]:
    """In the order of the messages. `accepted` and `dropped` count the events since the acknowledgement before."""
    last: Judged | None = None
    accepted = dropped = 0
    for message in judged:
        outcome = message.outcome
        if isinstance(outcome, NoFrame):
            refused = {"reason": outcome.fault.value, "detail": outcome.detail[:MAX_DETAIL_CHARACTERS]}
            said: dict[str, Any] = {"accepted": 0, "refused": refused}
        else:
            stored = sum(isinstance(verdict, Event) for verdict in outcome)
            told = {} if stored == len(outcome) else _told(outcome)
            gone = len(outcome) - stored - sum(map(len, told.values()))
            if not told:
                last = message
                accepted, dropped = accepted + stored, dropped + gone
                continue
            said = {**_counts(stored, gone), **told}
        if last is not None:
            yield _acknowledgement(last, _counts(accepted, dropped))
        last, accepted, dropped = None, 0, 0
        yield _acknowledgement(message, said)
    if last is not None:
        yield _acknowledgement(last, _counts(accepted, dropped))


def _acknowledgement(of: Judged, said: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "ack", "message": of.message, "seq": of.seq, **said}


def _counts(accepted: int, dropped: int) -> dict[str, Any]:
    return {"accepted": accepted, "dropped": dropped} if dropped else {"accepted": accepted}


def _told(outcome: Sequence[Verdict]) -> dict[str, list[dict[str, Any]]]:
    """What has become dead letters, each by its index."""
    told: dict[str, list[dict[str, Any]]] = {}
    for index, verdict in enumerate(outcome):
        if isinstance(verdict, Rejected):
            told.setdefault("invalid", []).append(_verdict(index, verdict))
        elif isinstance(verdict, SetAside) and verdict.status is Status.QUARANTINED:
            told.setdefault("quarantined", []).append(_verdict(index, verdict))
    return told


def _verdict(index: int, rejected: Rejected | SetAside) -> dict[str, Any]:
    return {
        "index": index,
        "event_id": rejected.event_id,
        "reason": rejected.reason.value,
        "detail": rejected.detail[:MAX_DETAIL_CHARACTERS],
    }

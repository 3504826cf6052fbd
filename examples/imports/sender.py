"""Delivers events until they are acknowledged and writes down, in the ledger, what became of every copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from examples.imports.domain.behaviour import Malformation
from examples.imports.domain.events import AppEvent
from examples.imports.domain.ledger import Ledger, Outcome
from examples.imports.transport import Answer, Api, GaveUpError, Lost
from examples.imports.wire import BATCH_PATH, EVENTS_PATH, batch, encode, encode_malformed

Acknowledged = Callable[[AppEvent], None]
"""Told of each event at the moment in which its acknowledgement has arrived, at every copy."""

Complain = Callable[[str], None]
"""Told of every answer that should not happen, in words for people."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """An event that is spoiled before it is sent."""

    event: AppEvent
    how: Malformation


class EventSender:
    """`deadline` is an instant of the loop's clock; what is not acknowledged by then stays unacknowledged."""

    def __init__(
        self,
        api: Api,
        ledger: Ledger,
        *,
        deadline: float,
        complain: Complain,
        acknowledged: Acknowledged = lambda _: None,
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._deadline = deadline
        self._complain = complain
        self._acknowledged = acknowledged

    async def send(self, events: Sequence[AppEvent], headers: Mapping[str, str], *, batched: bool) -> None:
        """Returns when all are acknowledged or the deadline has passed."""
        if batched:
            await self.send_batch(events, None, headers)
            return
        for event in events:
            ids = (event.event_id,)
            answer = await self._deliver(EVENTS_PATH, encode(event), ids, headers)
            if answer is None:
                continue
            if answer.ok:
                self._acknowledged(event)
                self._ledger.delivered(ids, Outcome.ACKNOWLEDGED)
            else:
                self._complain(f"valid event {event.event_type} was answered with {answer.status}: {answer.body}")

    async def send_batch(
        self, events: Sequence[AppEvent], malformed: Malformed | None, headers: Mapping[str, str]
    ) -> None:
        """One batch request; a malformed event goes in the middle of it."""
        encoded = [encode(event) for event in events]
        ids = [event.event_id for event in events]
        middle = len(encoded) // 2
        if malformed is not None:
            encoded.insert(middle, encode_malformed(malformed.event, malformed.how))
        answer = await self._deliver(BATCH_PATH, batch(encoded), ids, headers)
        if answer is None:
            return
        verdicts = _verdicts(answer)
        if len(verdicts) != len(encoded):
            self._complain(f"a batch of {len(encoded)} was answered with {answer.status}: {answer.body}")
            return
        if malformed is not None:
            self._judge_malformed(malformed, refused=verdicts.pop(middle) == "invalid", answer=answer)
        for event, verdict in zip(events, verdicts, strict=True):
            if verdict == "accepted":
                self._acknowledged(event)
                self._ledger.delivered((event.event_id,), Outcome.ACKNOWLEDGED)
            else:
                self._complain(f"valid event {event.event_type} in a batch: {verdict}: {answer.body}")

    async def send_malformed(self, malformed: Malformed, headers: Mapping[str, str]) -> None:
        """Alone: the answer must be 422."""
        raw = encode_malformed(malformed.event, malformed.how)
        answer = await self._deliver(EVENTS_PATH, raw, (), headers)
        if answer is not None:
            self._judge_malformed(malformed, refused=answer.status == 422, answer=answer)

    def _judge_malformed(self, malformed: Malformed, *, refused: bool, answer: Answer) -> None:
        self._ledger.malformed(malformed.event.event_id)
        if not refused:
            self._complain(
                f"malformed event ({malformed.how.value}) was answered with {answer.status}: {answer.body}"
            )

    async def _deliver(self, path: str, body: bytes, ids: Sequence[str], headers: Mapping[str, str]) -> Answer | None:
        """The final answer, or None when the deadline passed. Tries without a final answer go into the ledger."""

        def attempted(result: Answer | Lost) -> None:
            if isinstance(result, Answer) and not result.retryable:
                return
            self._ledger.delivered(ids, Outcome.NOT_SENT if result is Lost.REFUSED else Outcome.UNKNOWN)

        try:
            return await self._api.persistently(
                "POST", path, body, deadline=self._deadline, headers=headers, attempted=attempted
            )
        except GaveUpError as error:
            self._complain(f"gave up on {len(ids)} events: {error}")
            return None


def _verdicts(answer: Answer) -> list[str]:
    """The status of each event; empty where the answer holds none."""
    body: Any = answer.body
    results = body.get("results") if isinstance(body, dict) else None
    return [str(result.get("status")) for result in results] if isinstance(results, list) else []

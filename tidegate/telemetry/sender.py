"""The thread that sends: a batch at a time, the same one again until the platform has taken or refused it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from tidegate.telemetry.buffer import Buffer
from tidegate.telemetry.policy import Policy
from tidegate.telemetry.stats import Drop, Tally
from tidegate.telemetry.transport import LostError, Transport
from tidegate.telemetry.verdict import Delivered, Later, Refused, TooLarge, Verdict, verdict_of

logger = logging.getLogger(__name__)

_CLOSING_PAUSE = 0.25


class Sender:
    """`run` returns when the buffer is closed and empty. `monotonic` is in seconds."""

    def __init__(
        self,
        buffer: Buffer,
        transport: Transport,
        policy: Policy,
        tally: Tally,
        *,
        monotonic: Callable[[], float],
        jitter: random.Random,
    ) -> None:
        self._buffer = buffer
        self._transport = transport
        self._policy = policy
        self._tally = tally
        self._monotonic = monotonic
        self._jitter = jitter

    def run(self) -> None:
        buffer, policy = self._buffer, self._policy
        while True:
            if len(buffer) < policy.batch_events:
                buffer.wait(policy.linger)
            closed = buffer.closed
            buffer.gather()
            if batch := buffer.batch(policy.batch_events, policy.batch_bytes):
                self._deliver(batch)
            elif closed:
                self._transport.close()
                return

    def _deliver(self, batch: list[bytes]) -> None:
        """Returns when the batch is done with, or the buffer has been emptied without us."""
        began = self._monotonic()
        attempts = 0
        while len(self._buffer):
            verdict = self._attempt(batch)
            if isinstance(verdict, Delivered):
                self._settle(batch, verdict)
                return
            if isinstance(verdict, TooLarge) and len(batch) > 1:
                batch = batch[: len(batch) // 2]
                continue
            if not isinstance(verdict, Later):
                why = verdict.why if isinstance(verdict, Refused) else "one event is too large"
                logger.error("telemetry refused", extra={"why": why, "events": len(batch)})
                self._drop(batch, Drop.REFUSED)
                return
            if self._monotonic() - began >= self._policy.give_up:
                self._drop(batch, Drop.EXPIRED)
                return
            if attempts == 0:
                logger.warning("telemetry waits for the platform", extra={"why": verdict.why})
            self._buffer.pause(self._pause(attempts, verdict))
            attempts += 1

    def _attempt(self, batch: list[bytes]) -> Verdict:
        try:
            answer = self._transport.post(b'{"events":[' + b",".join(batch) + b"]}")
        except LostError as error:
            return Later(str(error))
        return verdict_of(answer, len(batch))

    def _pause(self, attempts: int, verdict: Later) -> float:
        """Seconds; what the platform asks for is the least."""
        policy = self._policy
        longest = _CLOSING_PAUSE if self._buffer.closed else policy.longest_pause
        own = min(policy.first_pause * 2.0 ** min(attempts, 30), longest)
        asked = min(verdict.after or 0.0, policy.longest_pause)
        return asked + own * self._jitter.uniform(0.5, 1.0)

    def _settle(self, batch: list[bytes], delivered: Delivered) -> None:
        if delivered.invalid:
            extra = {"events": delivered.invalid, "first": delivered.complaint}
            logger.warning("telemetry was invalid", extra=extra)
        if self._buffer.remove(len(batch)) == len(batch):
            self._tally.deliver(delivered.accepted, delivered.invalid, delivered.set_aside)

    def _drop(self, batch: list[bytes], why: Drop) -> None:
        self._tally.drop(why, self._buffer.remove(len(batch)))

"""Delivers notifications: one task for each channel that has something to send, so that none waits for another."""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.alerting.channels.attempt import Attempt, Outcome
from services.alerting.channels.outbox import ChannelName, Claim, Outbox
from services.alerting.channels.retry import Patience
from services.alerting.channels.sender import Sender
from services.alerting.channels.spec import type_of
from shared.clock import SECOND, Clock
from shared.postgres import RETRYABLE, Pool

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
"""How late a message is seen at most that another process has enqueued."""
_OUTAGE_SECONDS = 1.0
_DRAIN_SECONDS = 3.0
_CLEANING_SECONDS = 3600.0


class DeliveryMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter(
            "tidegate_alerting_attempts_total",
            "Attempts to deliver a notification, by type of channel and outcome",
            ["type", "outcome"],
            registry=registry,
        )
        self.finished = Counter(
            "tidegate_alerting_notifications_total",
            "Notifications that are delivered, failed (refused for good) or expired (given up)",
            ["type", "state"],
            registry=registry,
        )
        self.seconds = Histogram(
            "tidegate_alerting_delivery_seconds",
            "From the decision to the receiver's answer, of delivered notifications",
            ["type"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
            registry=registry,
        )
        self.pending = Gauge(
            "tidegate_alerting_notifications_pending", "Notifications that wait to be delivered", registry=registry
        )


class Delivery:
    """`run` sends until it is cancelled; any number of processes may run one on the same database.

    `tls` verifies mail servers, by default against the system's roots.
    """

    def __init__(
        self,
        pool: Pool,
        http: aiohttp.ClientSession,
        clock: Clock,
        metrics: DeliveryMetrics,
        *,
        patience: Patience | None = None,
        chance: Random | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._patience = patience or Patience()
        self._outbox = Outbox(pool, owner=secrets.token_hex(16), lease=self._patience.lease)
        self._sender = Sender(http, clock, timeout=self._patience.timeout, tls=tls)
        self._clock = clock
        self._metrics = metrics
        self._chance = chance or Random()
        self._woken = asyncio.Event()
        self._tasks: dict[ChannelName, asyncio.Task[None]] = {}

    @property
    def sender(self) -> Sender:
        """For messages that are no notifications, such as tests."""
        return self._sender

    def wake(self) -> None:
        """Something was enqueued and committed: send it now."""
        self._woken.set()

    async def run(self) -> None:
        """Ends only by being cancelled; attempts under way then have a moment to finish. Raises what is our fault."""
        loop = asyncio.get_running_loop()
        clean_at = loop.time()
        try:
            while True:
                self._woken.clear()
                pause = await self._start_due()
                if loop.time() >= clean_at:
                    clean_at = loop.time() + _CLEANING_SECONDS
                    await self._clean()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._woken.wait()
        finally:
            await self._drain()

    async def _start_due(self) -> float:
        """Starts a task for every channel whose time has come; returns the seconds until the next one's."""
        for name, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[name]
                task.result()
        try:
            waiting = await self._outbox.waiting()
        except RETRYABLE as error:
            logger.warning("notifications wait for Postgres", extra={"error": repr(error)})
            return _OUTAGE_SECONDS
        self._metrics.pending.set(waiting.messages)
        pause = _POLL_SECONDS
        for name, seconds in waiting.channels.items():
            if name in self._tasks:
                continue  # its end wakes us
            if seconds > 0:
                pause = min(pause, seconds)
                continue
            task = asyncio.create_task(self._serve(name), name=f"channel {name.organisation}/{name.key}")
            task.add_done_callback(lambda _: self._woken.set())
            self._tasks[name] = task
        return pause

    async def _serve(self, name: ChannelName) -> None:
        """Sends what is due on one channel, one after the other."""
        while True:
            try:
                claim = await self._outbox.claim(name)
            except RETRYABLE as error:
                logger.warning("a channel waits for Postgres", extra={"channel": name.key, "error": repr(error)})
                await asyncio.sleep(_OUTAGE_SECONDS)
                return
            if claim is None:
                return
            attempt = await self._sender.send(claim.channel, claim.notification, claim.token)
            await self._settle(claim, attempt)

    async def _settle(self, claim: Claim, attempt: Attempt) -> None:
        kind = type_of(claim.channel)
        self._metrics.attempts.labels(kind, attempt.outcome.value).inc()
        pace = self._patience.pace.get(kind, 0.0)
        match attempt.outcome:
            case Outcome.DELIVERED:
                await _persistently(lambda: self._outbox.finish(claim, attempt, "delivered", pace))
                self._metrics.finished.labels(kind, "delivered").inc()
                self._metrics.seconds.labels(kind).observe((self._clock() - claim.notification.at) / SECOND)
            case Outcome.PERMANENT:
                await _persistently(lambda: self._outbox.finish(claim, attempt, "failed", pace))
                self._metrics.finished.labels(kind, "failed").inc()
                logger.error("a receiver refused a notification", extra=_described(claim, attempt))
            case Outcome.RETRYABLE:
                await self._postpone(claim, attempt, kind, pace)

    async def _postpone(self, claim: Claim, attempt: Attempt, kind: str, pace: float) -> None:
        """The channel rests as a whole: a receiver that is down or asks for time is not tried message by message."""
        delay = self._patience.delay(claim.failures + 1, attempt.retry_after, self._chance.random())
        pause = self._patience.delay(claim.channel_failures + 1, attempt.retry_after, self._chance.random())
        if claim.age >= self._patience.give_up:
            await _persistently(lambda: self._outbox.finish(claim, attempt, "expired", max(pause, pace)))
            self._metrics.finished.labels(kind, "expired").inc()
            logger.error("a notification is given up", extra=_described(claim, attempt))
            return
        await _persistently(lambda: self._outbox.postpone(claim, attempt, delay, max(pause, pace)))
        logger.warning("a notification is sent again later", extra=_described(claim, attempt) | {"seconds": delay})

    async def _clean(self) -> None:
        try:
            await self._outbox.forget_finished()
        except RETRYABLE as error:
            logger.warning("old notifications stay for now", extra={"error": repr(error)})

    async def _drain(self) -> None:
        """A message that has been sent should be settled, or it would be sent again."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=_DRAIN_SECONDS)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


async def _persistently(write: Callable[[], Awaitable[None]]) -> None:
    """What became of an attempt must be stored, or the message would go out twice: an outage is waited out."""
    while True:
        try:
            await write()
            return
        except RETRYABLE as error:
            logger.warning("the outcome of an attempt waits for Postgres", extra={"error": repr(error)})
            await asyncio.sleep(_OUTAGE_SECONDS)


def _described(claim: Claim, attempt: Attempt) -> dict[str, object]:
    return {
        "organisation": claim.name.organisation,
        "channel": claim.name.key,
        "notification": claim.id,
        "alert": claim.notification.alert_key,
        "action": claim.notification.action,
        "attempts": claim.failures + 1,
        "detail": attempt.detail,
    }

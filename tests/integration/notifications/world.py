"""An organisation with channels, and whoever they reach."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any

from prometheus_client import CollectorRegistry

from examples.imports.domain.inbox import Channel
from examples.imports.receivers import Receivers
from services.alerting.channel_store import ChannelStore
from services.alerting.channels.retry import Patience
from services.alerting.channels.sender import new_session
from services.alerting.delivery import Delivery, DeliveryMetrics
from services.alerting.domain.notification import Notification, dedup_key_of
from services.alerting.notifications import NotificationState, enqueue, notifications_of
from shared.clock import system_clock
from shared.postgres import Pool
from tests.waiting import eventually

PATIENT = Patience(timeout=30, lease=60, first_delay=0.02, longest_delay=0.05, pace={})
"""Retries at once, but a busy machine is no hang."""
QUICK = replace(PATIENT, timeout=0.5, lease=1.0)
"""For receivers that do hang."""
CHANNELS: tuple[Channel, ...] = ("slack", "pagerduty", "email")
_numbers = itertools.count(1)


class World:
    """An organisation of its own, with a channel of each type, and whoever they reach."""

    def __init__(self, pool: Pool, receivers: Receivers) -> None:
        self.organisation = f"org{next(_numbers)}"
        self.pool = pool
        self.store = ChannelStore(pool)
        self.receivers = receivers
        self.registry = CollectorRegistry()

    def spec(self, channel: Channel) -> dict[str, Any]:
        port = self.receivers.smtp_port
        specs: dict[Channel, dict[str, Any]] = {
            "slack": {"type": "slack", "url": self.receivers.slack_url, "channel": "#import-alerts"},
            "pagerduty": {
                "type": "pagerduty",
                "routing_key": self.receivers.routing_key,
                "url": self.receivers.pagerduty_url,
            },
            "email": {
                "type": "email",
                "host": "127.0.0.1",
                "port": port,
                "tls": "none",
                "from": "Tidegate <alerts@tidegate.example>",
                "to": ["product@atlas.com", "engineering@atlas.com"],
            },
        }
        return specs[channel]

    async def define(self, *channels: Channel) -> None:
        for channel in channels:
            await self.store.put(self.organisation, channel, self.spec(channel))

    def note(self, n: int = 1, **changes: Any) -> Notification:
        note = Notification(
            organisation=self.organisation,
            notify=None,
            alert_key=f"rule:{n}",
            dedup_key=dedup_key_of(self.organisation, f"rule:{n}", 1),
            action="trigger",
            severity="critical",
            title=f"Imports fail ({n})",
            message="Ten in a row",
            at=system_clock(),
            data={"failures": 10},
            alert_id=n,
        )
        return replace(note, **changes)

    async def enqueue(self, *notes: Notification) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            await enqueue(connection, notes)

    async def states(self, n: int = 1) -> list[NotificationState]:
        return await notifications_of(self.pool, self.organisation, n)

    async def until_finished(self, n: int = 1, *, count: int) -> list[NotificationState]:
        async def finished() -> bool:
            states = await self.states(n)
            return len(states) == count and all(s.state != "pending" for s in states)

        await eventually(finished, "every notification is finished", every=0.01)
        return await self.states(n)

    @asynccontextmanager
    async def delivery(self, patience: Patience = PATIENT) -> AsyncIterator[Delivery]:
        async with new_session() as http:
            metrics = DeliveryMetrics(CollectorRegistry())
            delivery = Delivery(self.pool, http, system_clock, metrics, patience=patience, chance=Random(1))
            running = asyncio.create_task(delivery.run())
            try:
                yield delivery
                assert not running.done(), running.exception()
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

"""Holds every key to its limit, whichever way its events come in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from services.ingest.balances import Balances
from services.ingest.domain.rate_limit import Allowed, Balance, Wait, charged, given_back, retry_after
from services.ingest.metrics import RateMetrics
from shared.http import Problem
from shared.keys import RateLimit


class Limited(Protocol):
    """Who sends events: a key by its prefix, and its limit if it has one."""

    @property
    def key(self) -> str: ...

    @property
    def limit(self) -> RateLimit | None: ...


class RateLimits:
    """`now` is in seconds of a clock that only goes forward, `chance` draws from 0 to 1."""

    def __init__(
        self,
        balances: Balances,
        *,
        now: Callable[[], float],
        chance: Callable[[], float],
        metrics: RateMetrics,
    ) -> None:
        self._balances = balances
        self._now = now
        self._chance = chance
        self._metrics = metrics

    def check(self, who: Limited, *, patience: float = 0.0) -> None:
        """Raises Problem 429 if nothing could come in within `patience` seconds."""
        limit = who.limit
        if limit is None:
            return
        decided = self._decided(who.key, limit, 0)
        if isinstance(decided, Wait) and decided.seconds > patience:
            raise self._refusal(limit, decided.seconds)

    @asynccontextmanager
    async def charged(self, who: Limited, events: int, *, patience: float) -> AsyncIterator[None]:
        """Charges the key for so many events, or waits until that is possible, at most `patience` seconds.

        What the block raises a Problem for has not been stored: it is given back. Raises Problem 429.
        """
        limit = who.limit
        if limit is None:
            yield
            return
        await self._charge(who.key, limit, events, patience)
        try:
            yield
        except Problem:
            self._balances.change(who.key, lambda balance: given_back(balance, limit, events, self._now()))
            raise

    async def _charge(self, key: str, limit: RateLimit, events: int, patience: float) -> None:
        until = self._now() + patience
        is_late = False
        while isinstance(decided := self._decided(key, limit, events), Wait):
            if self._now() + decided.seconds > until:
                raise self._refusal(limit, decided.seconds)
            if not is_late:
                self._metrics.delayed.inc()
                is_late = True
            await asyncio.sleep(decided.seconds)

    def _decided(self, key: str, limit: RateLimit, events: int) -> Allowed | Wait:
        decided: Allowed | Wait = Wait(0.0)

        def change(balance: Balance | None) -> Balance | None:
            nonlocal decided
            decided = charged(balance, limit, events, self._now())
            return decided.balance if isinstance(decided, Allowed) else None

        self._balances.change(key, change)
        return decided

    def _refusal(self, limit: RateLimit, seconds: float) -> Problem:
        self._metrics.refused.inc()
        wait = retry_after(seconds, self._chance())
        return Problem(
            429,
            "rate_limited",
            f"with this key {limit.events_per_second:g} events a second may be sent; send these again in {wait} s",
            headers={"Retry-After": str(wait)},
            extra={"rate_limit": {"events_per_second": limit.events_per_second, "burst": limit.burst}},
        )

"""What can go wrong, one small object each: `start` does it, `stop` lifts it and returns when all is well again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from tests.faults.proxy import Cut, Proxy
from tests.faults.site import Site
from tests.faults.victims import Victim, family, send
from tests.waiting import eventually

RECOVERY = 90.0
"""Seconds in which a process must be ready again."""


class Fault(Protocol):
    """`seconds` is how long it lasts at least; `is_spent` whether it has had its full effect."""

    seconds: float

    @property
    def name(self) -> str: ...

    async def start(self) -> None: ...

    def is_spent(self) -> bool: ...

    async def stop(self) -> None: ...


class Death:
    """A signal that ends a process; whoever supervises it starts it again."""

    seconds = 0.0

    def __init__(self, victim: Victim, how: signal.Signals = signal.SIGKILL) -> None:
        self._victim = victim
        self._how = how
        self._before = 0

    @property
    def name(self) -> str:
        return f"{self._how.name} to {self._victim.name}"

    async def start(self) -> None:
        self._before = send(self._victim, self._how)

    def is_spent(self) -> bool:
        return True

    async def stop(self) -> None:
        async def again() -> bool:
            return self._victim.pid() not in (None, self._before) and self._victim.is_ready()

        await eventually(again, f"{self._victim.name} is started again and ready", seconds=RECOVERY)


class Pause:
    """SIGSTOP to a process and all that it started, then SIGCONT: it wakes up in a world that went on without it."""

    def __init__(self, victim: Victim, seconds: float) -> None:
        self.seconds = seconds
        self._victim = victim
        self._stopped: list[int] = []

    @property
    def name(self) -> str:
        return f"{self.seconds:g} s of SIGSTOP to {self._victim.name}"

    async def start(self) -> None:
        first = send(self._victim, signal.SIGSTOP)
        self._stopped = family(first)
        for pid in self._stopped[1:]:
            _signal(pid, signal.SIGSTOP)

    def is_spent(self) -> bool:
        return True

    async def stop(self) -> None:
        for pid in reversed(self._stopped):
            _signal(pid, signal.SIGCONT)
        await eventually(self._is_ready, f"{self._victim.name} is ready again", seconds=RECOVERY)

    async def _is_ready(self) -> bool:
        return self._victim.is_ready()


class Disconnection:
    """Every connection of the workers to Postgres breaks at once."""

    name = "all connections to Postgres cut"
    seconds = 0.0

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    async def start(self) -> None:
        self._proxy.cut()

    def is_spent(self) -> bool:
        return True

    async def stop(self) -> None:
        """There is nothing to lift."""


class Partition:
    """The workers cannot reach Postgres: connections break and new ones are refused."""

    def __init__(self, proxy: Proxy, seconds: float) -> None:
        self.seconds = seconds
        self._proxy = proxy

    @property
    def name(self) -> str:
        return f"{self.seconds:g} s without a way to Postgres"

    async def start(self) -> None:
        await self._proxy.refuse()

    def is_spent(self) -> bool:
        return True

    async def stop(self) -> None:
        await self._proxy.accept()


class BlackHole:
    """What the workers and Postgres say to each other does not arrive; in the end the connections break."""

    def __init__(self, proxy: Proxy, seconds: float) -> None:
        self.seconds = seconds
        self._proxy = proxy

    @property
    def name(self) -> str:
        return f"{self.seconds:g} s of a black hole before Postgres"

    async def start(self) -> None:
        self._proxy.swallow()

    def is_spent(self) -> bool:
        return True

    async def stop(self) -> None:
        self._proxy.cut()
        self._proxy.flow()


class CommitCuts:
    """The connection breaks in a COMMIT, so often as `cuts` says, each time as it says."""

    seconds = 0.0

    def __init__(self, proxy: Proxy, cuts: Sequence[Cut]) -> None:
        self._proxy = proxy
        self._cuts = cuts

    @property
    def name(self) -> str:
        return f"COMMIT cut {len(self._cuts)} times"

    async def start(self) -> None:
        self._proxy.cut_commits(self._cuts)

    def is_spent(self) -> bool:
        return self._proxy.cuts_left == 0

    async def stop(self) -> None:
        """There is nothing to lift."""


class Rebalance:
    """More workers, or fewer: partitions change hands while batches are under way."""

    seconds = 0.0

    def __init__(self, site: Site, workers: int) -> None:
        self._site = site
        self._workers = workers

    @property
    def name(self) -> str:
        return f"{self._workers} workers from now on"

    async def start(self) -> None:
        await self._site.scale(self._workers)

    def is_spent(self) -> bool:
        return True

    async def stop(self) -> None:
        """It stays."""


class AllAtOnce:
    """Several faults together."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = faults
        self.seconds = max(f.seconds for f in faults)

    @property
    def name(self) -> str:
        return ", ".join(f.name for f in self._faults)

    async def start(self) -> None:
        await asyncio.gather(*(f.start() for f in self._faults))

    def is_spent(self) -> bool:
        return all(f.is_spent() for f in self._faults)

    async def stop(self) -> None:
        await asyncio.gather(*(f.stop() for f in self._faults))


def _signal(pid: int, how: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, how)

"""The flag in front of the imports, asked for over OFREP: by users, and by a watcher that sees each change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import quote

import msgspec

from examples.imports.domain.valve import FlagAnswer, FlagState, Sightings
from examples.imports.platform import PlatformError, flag_of
from examples.imports.transport import Api, Lost

_POLL_SECONDS = 0.01
_WATCHER = "flag-watcher"

Ask = Callable[[str, Mapping[str, str]], Awaitable[FlagAnswer]]
"""(user id, headers) → what the user gets to see of the flag. Asks until there is an answer, or raises GaveUpError;
PlatformError for an answer that is none."""


async def until_on(api: Api, flag: str, deadline: float) -> None:
    """Returns once the flag, just defined, answers that it is on. Raises PlatformError after `deadline`."""
    path, body = evaluation(flag, _WATCHER)
    while True:
        answer = await api.once("POST", path, body)
        if not isinstance(answer, Lost) and answer.ok and flag_of(answer).state is FlagState.ON:
            return
        if asyncio.get_running_loop().time() > deadline:
            said = answer.value if isinstance(answer, Lost) else f"{answer.status} {answer.body}"
            raise PlatformError(f"the flag {flag} did not go on: {said}")
        await asyncio.sleep(_POLL_SECONDS)


class Gate:
    """Evaluates one flag for a user."""

    def __init__(self, api: Api, flag: str, deadline: float) -> None:
        self._api = api
        self._flag = flag
        self._deadline = deadline

    async def __call__(self, user: str, headers: Mapping[str, str]) -> FlagAnswer:
        path, body = evaluation(self._flag, user)
        return flag_of(await self._api.persistently("POST", path, body, deadline=self._deadline, headers=headers))


class FlagWatcher:
    """Looks at one flag every 10 ms, always as the same user who is none; `sightings` are its log."""

    def __init__(self, api: Api, flag: str) -> None:
        self._api = api
        self._request = evaluation(flag, _WATCHER)
        self.sightings = Sightings()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """A refusal of the platform ends the block, with PlatformError in a group."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._watch())
            try:
                yield
            finally:
                task.cancel()

    async def sees(self, *states: FlagState, seconds: float) -> bool:
        """Whether the flag gets into one of the states within that time."""
        try:
            async with asyncio.timeout(seconds):
                while self.sightings.state not in states:
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            return False
        return True

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        path, body = self._request
        while True:
            begun = loop.time()
            answer = await self._api.once("POST", path, body)
            if not isinstance(answer, Lost) and not answer.retryable:
                self.sightings.saw(flag_of(answer).state, loop.time())
            await asyncio.sleep(max(0.0, begun + _POLL_SECONDS - loop.time()))


def evaluation(flag: str, user: str) -> tuple[str, bytes]:
    """Path and body of an evaluation for `user`."""
    return f"/ofrep/v1/evaluate/flags/{quote(flag, safe='')}", msgspec.json.encode(
        {"context": {"targetingKey": user}}
    )

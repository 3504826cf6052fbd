"""Definitions of sources stay current whatever becomes of the copy that they are read from."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiokafka.errors import KafkaConnectionError

from services.ingest.sources.following import follow
from tests.waiting import eventually


class Copies:
    """Makes copies: the first cannot begin, the second fails after its start, the third is kept."""

    def __init__(self) -> None:
        self.made: list[Copy] = []

    def new(self) -> Copy:
        self.made.append(Copy(len(self.made)))
        return self.made[-1]


class Copy:
    def __init__(self, number: int) -> None:
        self._number = number
        self.failure: BaseException | None = None
        self.stopped = False

    async def start(self) -> None:
        if self._number == 0:
            raise KafkaConnectionError
        if self._number == 1:
            self.failure = RuntimeError("a record that nobody foresaw")

    async def stop(self) -> None:
        self.stopped = True


async def test_a_copy_that_fails_is_followed_by_a_new_one() -> None:
    copies = Copies()
    following = asyncio.create_task(follow(copies.new, look_every=0.01))

    async def third() -> bool:
        return len(copies.made) == 3

    await eventually(third, "the third copy is made")
    assert [copy.stopped for copy in copies.made] == [True, True, False]
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    assert [copy.stopped for copy in copies.made] == [True, True, True]

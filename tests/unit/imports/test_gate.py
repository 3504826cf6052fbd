"""The flag in front of the imports, asked for over OFREP."""

from __future__ import annotations

import asyncio

import pytest

from examples.imports.definitions import Addresses, load
from examples.imports.domain.events import ImportOutcome, Session, SessionTimes
from examples.imports.domain.valve import FlagAnswer, FlagState
from examples.imports.gate import FlagWatcher, Gate, until_on
from examples.imports.platform import Platform, PlatformError
from shared.clock import system_clock
from tests.unit.imports.conftest import Client, OpenClient

_DEFINITIONS = load("1", Addresses("http://127.0.0.1:1/", "http://127.0.0.1:1/", "0" * 32, "127.0.0.1", 1))
_FLAG = "data_import_enabled_1"


async def _set_up(client: Client) -> None:
    await Platform(client.api, client.api).set_up(_DEFINITIONS, deadline=_in(5))
    client.gateway.guard.definitions["channels"].clear()


async def _end(client: Client, status: str, count: int) -> None:
    """`count` imports end like that, all acknowledged."""
    outcome = ImportOutcome(status, 1, 0, 1, 1.0, ())
    now, times = system_clock(), SessionTimes(0, 0, 0)
    events = [
        Session("key", f"{status}_{now}_{n}").completed(now + n, outcome, times, variant="realtime")
        for n in range(count)
    ]
    await client.sender.send(events, {}, batched=True)


def _in(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_users_find_imports_on_until_ten_of_them_have_failed_in_a_row(open_client: OpenClient) -> None:
    async with open_client() as client:
        await _set_up(client)
        gate = Gate(client.api, _FLAG, _in(5))
        await _end(client, "failed", 9)
        assert await gate("u", {}) == FlagAnswer(FlagState.ON)
        await _end(client, "failed", 1)
        assert await gate("u", {}) == FlagAnswer(FlagState.OFF, "breaker:data_import_1")


async def test_the_watcher_sees_the_flag_go_off_and_notes_when(open_client: OpenClient) -> None:
    async with open_client() as client:
        await _set_up(client)
        watcher = FlagWatcher(client.api, _FLAG)
        async with watcher.watching():
            before = _in(0)
            await _end(client, "failed", 10)
            assert await watcher.sees(FlagState.OFF, seconds=5)
            assert not await watcher.sees(FlagState.ON, seconds=0.05)
    (opening,) = watcher.sightings.openings
    assert before < opening <= _in(0)
    assert watcher.sightings.closings == []


async def test_a_flag_that_is_just_being_defined_is_waited_for(open_client: OpenClient) -> None:
    async with open_client() as client:
        waiting = asyncio.create_task(until_on(client.api, _FLAG, _in(5)))
        await asyncio.sleep(0)
        await _set_up(client)
        await waiting


async def test_a_flag_that_nobody_defines_is_an_error(open_client: OpenClient) -> None:
    async with open_client() as client:
        with pytest.raises(PlatformError, match="FLAG_NOT_FOUND"):
            await until_on(client.api, _FLAG, _in(0.05))

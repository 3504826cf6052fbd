"""A crowd comes, is answered and stays; who is sent away is missed."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.ingest.crowd import Crowd, Crowded, CrowdPlan


def _plan(url: str) -> CrowdPlan:
    return CrowdPlan(url=url, form="tidegate", connections=40, at_once=8, seconds=20, hold=0.2, run="test", seed=1)


def _said(text: bytes) -> list[Crowded]:
    return [msgspec.json.decode(line, type=Crowded) for line in text.splitlines()]


@pytest.mark.parametrize(("keeps", "left"), [(True, 40), (False, 0)], ids=["kept", "sent away"])
async def test_who_stays_is_counted(keeps: bool, left: int, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        response = web.Response(status=202)
        if not keeps:
            response.force_close()
        return response

    app = web.Application()
    app.router.add_post("/events", answer)
    async with TestServer(app) as server:
        await asyncio.to_thread(Crowd(_plan(str(server.make_url("/events"))), "key").run)

    first, last = _said(capfdbinary.readouterr().out)
    assert (first.accepted, first.refused) == (40, {})
    assert (last.open, last.accepted) == (left, 40)

"""The load sends every event once, believes only whole answers, and its figures are ratios of the same run."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.ingest.figures import Cost, Rates, Round
from bench.ingest.load import Load, Plan, Told, nearest_rank
from bench.ingest.requests import Requests


def _requests(events: int, run: str = "abcd") -> Requests:
    return Requests(host="h", path="/p", key="k", events=events, run=run, seed=1)


@pytest.mark.parametrize("events", [1, 100])
def test_every_request_is_whole_and_no_event_id_comes_twice(events: int) -> None:
    seen: set[str] = set()
    prepared = [_requests(events), _requests(events, run="efgh")]
    for number in range(200):
        for requests in prepared:
            head, _, body = requests.numbered(number).partition(b"\r\n\r\n")
            assert b"Content-Length: %d" % len(body) in head
            said = json.loads(body)
            seen.update(event["event_id"] for event in (said["events"] if events > 1 else [said]))
    assert len(seen) == 2 * 200 * events


def _plan(url: str, rate: float) -> Plan:
    return Plan(url=url, events=1, connections=4, seconds=0.4, warm_up=0.1, rate=rate, run="test", seed=1)


@pytest.mark.parametrize("rate", [0.0, 100.0])
async def test_what_the_load_counts_is_what_the_server_took(rate: float) -> None:
    taken: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        taken.append((await request.json())["event_id"])
        refused = len(taken) % 5 == 0
        return web.json_response({}, status=503 if refused else 202)

    app = web.Application()
    app.router.add_post("/events", answer)
    async with TestServer(app) as server:
        told = await asyncio.to_thread(Load(_plan(str(server.make_url("/events")), rate), "key").run)

    assert len(set(taken)) == len(taken)
    assert told.accepted == len(taken) - len(taken) // 5
    assert told.answers <= told.accepted
    assert told.refused.keys() == {"503"}
    if rate:
        assert len(taken) <= rate * 0.5 + 1
    assert 0 < told.p50 <= told.p99 <= told.max


async def test_a_server_that_goes_away_gives_no_figures() -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    app = web.Application()
    app.router.add_post("/events", hang_up)
    async with TestServer(app) as server:
        load = Load(_plan(str(server.make_url("/events")), 0.0), "key")
        with pytest.raises(OSError, match="closed a connection"):
            await asyncio.to_thread(load.run)


def test_the_nearest_rank_of_a_hundred() -> None:
    assert [nearest_rank([float(n) for n in range(1, 101)], q) for q in (0.5, 0.99, 1.0)] == [50, 99, 100]


def _told(answers: int) -> Told:
    return Told(accepted=2_000, answers=answers, refused={"503": 2}, seconds=2.0, p50=1.0, p99=2.0, max=3.0)


def test_figures_are_per_second_and_ratios_to_ours() -> None:
    rates = Rates(
        [
            Round("batch100", "tidegate", 100, _told(10), _told(5), Cost(0.01, 1024 * 1024)),
            Round("batch100", "other", 100, _told(5), _told(2)),
        ]
    )
    found = {(f.system, f.metric): (f.value, f.unit) for f in rates.figures()}
    assert found["tidegate", "events_per_s"] == (500, "events/s")
    assert found["tidegate", "requests_per_s"] == (5, "requests/s")
    assert found["tidegate", "cpu_per_event"] == (5, "µs")
    assert found["tidegate", "peak_memory"] == (1, "MiB")
    assert found["tidegate", "refused"] == (4, "requests")
    assert found["other", "ratio_to_tidegate"] == (0.5, "×")
    assert ("other", "peak_memory") not in found

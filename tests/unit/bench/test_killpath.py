"""A trip's moments become parts that add up, and many trips become quantiles; a wrong load gives no figures."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from bench.killpath.load import BATCH, Accepted, Load, bodies, read_line
from bench.killpath.run import as_trip, missing_events, rate_between
from bench.killpath.trips import PARTS, WHOLE, KillPath, Round, Trip, nearest_rank
from bench.killpath.valve import Opening
from bench.processes import BenchError
from shared.messages import Switch
from tests.waiting import eventually

MS = 1_000


def trip(total_ms: int) -> Trip:
    return Trip(
        sent_at=0,
        answered_at=10 * MS,
        published_at=60 * MS,
        switched_at=80 * MS,
        changed_at=total_ms * MS,
        lag_ms=3.5,
    )


def test_the_parts_of_the_budget_add_up_to_the_whole() -> None:
    _, _, *parts = PARTS
    assert sum(PARTS[part](trip(123)) for part in parts) == PARTS[WHOLE](trip(123)) == 123 * MS


def test_the_99th_percentile_of_a_hundred_trips_leaves_out_only_the_slowest() -> None:
    values = list(range(1, 101))
    assert (nearest_rank(values, 0.5), nearest_rank(values, 0.99), nearest_rank(values, 1)) == (50, 99, 100)
    assert nearest_rank([7], 0.01) == nearest_rank([7], 0.99) == 7


def test_every_figure_says_load_and_unit_and_comes_from_the_trips() -> None:
    found = KillPath([Round(0, 0.0, [trip(100)]), Round(1_000, 999.94, [trip(90 + n) for n in range(10, 110)])])
    figures = {(f.workload, f.metric): (f.value, f.unit) for f in found.figures()}
    assert {f.bench for f in found.figures()} == {"killpath"}
    assert {f.system for f in found.figures()} == {"tidegate"}
    assert figures["0/s", "event_to_changed_answer_p99_ms"] == (100.0, "ms")
    assert figures["1000/s", "event_to_changed_answer_p50_ms"] == (149.0, "ms")
    assert figures["1000/s", "event_to_changed_answer_p99_ms"] == (198.0, "ms")
    assert figures["1000/s", "event_to_changed_answer_max_ms"] == (199.0, "ms")
    assert figures["1000/s", "answered_event_to_changed_answer_max_ms"] == (189.0, "ms")
    assert figures["0/s", "fold_commit_publish_p50_ms"] == (50.0, "ms")
    assert figures["1000/s", "background_accepted_per_s"] == (999.9, "events/s")
    assert figures["1000/s", "lag_max_ms"] == (3.5, "ms")
    assert figures["1000/s", "trips"] == (100, "trips")


def test_the_table_has_a_row_for_each_load() -> None:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(KillPath([Round(0, 0.0, [trip(100)]), Round(10_000, 9_990.0, [trip(2_345)])]).table("killpath"))
    assert "0/s" in captured.get()
    assert "10000/s" in captured.get()
    assert "2,345" in captured.get()


def test_a_trip_without_evidence_is_no_trip() -> None:
    switch = Switch(organisation="default", flag="f", cause="breaker:f", off=True, decided_at=9)
    with pytest.raises(BenchError, match="update_published_at"):
        as_trip(Opening(switch, 9), 1, 2, 10)


def test_a_trip_takes_the_updates_time_from_the_evidence_and_the_switchs_from_the_broker() -> None:
    evidence = {"update_published_at": 5_000, "lag_ms": 7}
    switch = Switch(organisation="default", flag="f", cause="breaker:f", off=True, decided_at=9, evidence=evidence)
    assert as_trip(Opening(switch, 6_000), 1_000, 2_000, 8_000) == Trip(1_000, 2_000, 5_000, 6_000, 8_000, 7)


def test_the_rate_is_that_between_two_tellings() -> None:
    assert rate_between(Accepted(1_000, 0, 1.0), Accepted(6_000, 0, 3.5)) == 2_000
    assert rate_between(Accepted(0, 0, 0.0), Accepted(0, 0, 0.0)) == 0


def test_a_load_that_was_not_accepted_at_its_rate_is_found_out() -> None:
    before = Accepted(1_000, 0, 1.0)
    assert missing_events(before, Accepted(101_000, 0, 11.0), 10_000) == 0
    assert missing_events(before, Accepted(96_000, 40, 11.0), 10_000) == 0
    assert missing_events(before, Accepted(90_000, 100, 11.0), 10_000) == 5_900
    assert missing_events(Accepted(0, 0, 0.0), Accepted(0, 0, 0.0), 0) == 0


def test_prepared_batches_leave_ids_and_times_to_ingest() -> None:
    for body in bodies():
        events = msgspec.json.decode(body)["events"]
        assert len(events) == BATCH
        assert not any({"event_id", "event_timestamp"} & set(event) for event in events)


def test_the_load_says_what_was_accepted_in_a_line_that_can_be_read() -> None:
    said = Accepted(100, 2, 0.5)
    assert read_line(msgspec.json.encode(said)) == said


async def test_the_load_keeps_its_rate_however_slow_the_answers_are_and_counts_only_what_was_accepted() -> None:
    seen: list[float] = []
    loop = asyncio.get_running_loop()

    async def answer(request: web.Request) -> web.Response:
        seen.append(loop.time())
        await request.read()
        number = len(seen)
        await asyncio.sleep(0.2)
        return web.json_response({"accepted": BATCH}, status=503 if number == 1 else 202)

    app = web.Application(client_max_size=10_000_000)
    app.router.add_post("/api/v1/streaming-analytics/events/batch", answer)
    async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as session:
        load = Load(session, 50 * BATCH)
        start = loop.time()
        running = asyncio.create_task(load.run(start))

        async def enough() -> bool:
            return load.accepted >= 10 * BATCH

        await eventually(enough, "ten batches were accepted")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert load.refused_batches == 1
    # 11 answers of 200 ms one after the other would take 2.2 s; on a schedule of 20 ms they overlap.
    assert seen[10] - start < 1.5

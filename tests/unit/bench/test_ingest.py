"""The load sends every event once, believes only whole answers, and its figures are ratios of the same run."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from bench.ingest.figures import Cost, Gathering, Rates, Round
from bench.ingest.forms import BENTO, FORMS, STRIMZI, TIDEGATE, Form, form_of
from bench.ingest.load import Load, Phase, Plan, Told, nearest_rank
from bench.ingest.requests import Requests
from bench.ingest.workloads import WORKLOADS, Range, Workload

FEW = 64
"""Requests after which the sizes come again."""
MIXED = replace(WORKLOADS["mixed"], events=Range(1, 60), event_bytes=Range(200, 3_000))
"""As it is, only smaller."""


def _requests(form: Form, workload: Workload, run: str = "abcd") -> Requests:
    return Requests(host="h", path="/p", key="k", form=form, workload=workload, run=run, seed=1)


def _events(form: Form, workload: Workload, body: bytes) -> list[dict[str, object]]:
    if form is BENTO:
        return [json.loads(line) for line in body.split(b"\n")]
    said = json.loads(body)
    if form is STRIMZI:
        return [record["value"] for record in said["records"]]
    found: list[dict[str, object]] = said["events"] if workload.is_batch else [said]
    return found


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    "workload", [WORKLOADS["single"], WORKLOADS["batch100"], MIXED], ids=["single", "batch100", "mixed"]
)
def test_every_request_is_whole_says_how_many_events_it_has_and_repeats_no_id(form: Form, workload: Workload) -> None:
    seen: set[object] = set()
    sent = 0
    for requests in (_requests(form, workload), _requests(form, workload, run="efgh")):
        for number in range(FEW if workload.event_bytes else 2 * FEW):
            head, _, body = requests.numbered(number).partition(b"\r\n\r\n")
            assert b"Content-Length: %d" % len(body) in head
            assert form.content_type.encode() in head
            events = _events(form, workload, body)
            assert len(events) == requests.prepared(number).events
            assert len(body) == requests.prepared(number).size
            seen.update(event["event_id"] for event in events)
            sent += len(events)
    assert len(seen) == sent


def test_all_systems_get_the_same_events() -> None:
    bodies = [_requests(form, MIXED).numbered(3).partition(b"\r\n\r\n")[2] for form in (TIDEGATE, BENTO, STRIMZI)]
    ours, *theirs = (
        [{**e, "event_timestamp": ""} for e in _events(form, MIXED, body)]
        for form, body in zip((TIDEGATE, BENTO, STRIMZI), bodies, strict=True)
    )
    assert all(events == ours for events in theirs)


def test_mixed_sizes_cover_their_ranges() -> None:
    requests = _requests(BENTO, WORKLOADS["mixed"])
    counts: list[int] = []
    sizes: list[int] = []
    for number in range(FEW):
        lines = requests.numbered(number).partition(b"\r\n\r\n")[2].split(b"\n")
        counts.append(len(lines))
        sizes += map(len, lines)
    assert min(counts) == 1
    assert 900 < max(counts) <= 1_000
    assert min(sizes) < 300
    assert 19_000 < max(sizes) <= 20_000
    assert sorted(counts)[FEW // 2] == pytest.approx(1_000**0.5, rel=0.2)


def test_a_range_reaches_from_end_to_end() -> None:
    assert [Range(1, 100).at(share) for share in (0, 0.5, 1)] == [1, 10, 100]
    assert Range(100, 100).at(0.3) == 100


@pytest.mark.parametrize(
    ("system", "form"), [("bento", BENTO), ("strimzi-tuned", STRIMZI), ("bentonite", TIDEGATE), ("other", TIDEGATE)]
)
def test_a_system_is_known_by_what_its_name_begins_with(system: str, form: Form) -> None:
    assert form_of(system) is form


def test_a_topic_is_in_the_path_where_the_system_wants_it() -> None:
    assert STRIMZI.path_for(is_batch=True, topic="t.1") == "/topics/t.1"
    assert TIDEGATE.path_for(is_batch=False, topic="t.1") + "/batch" == TIDEGATE.path_for(is_batch=True, topic="")


def _load(url: str, *phases: Phase, workload: str = "single") -> Load:
    return Load(Plan(url=url, form="tidegate", workload=workload, phases=phases, run="test", seed=1), "key")


async def test_what_the_load_counts_is_what_the_server_took() -> None:
    taken: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        taken.append((await request.json())["event_id"])
        refused = len(taken) % 5 == 0
        return web.json_response({}, status=503 if refused else 202)

    app = web.Application()
    app.router.add_post("/events", answer)
    async with TestServer(app) as server:
        load = _load(str(server.make_url("/events")), Phase(0.3), Phase(0.4, rate=100), Phase(0.2, share=0.1))
        greeting, fast, fixed, tenth = await asyncio.to_thread(lambda: list(load.run()))

    assert len(set(taken)) == len(taken)
    phases = [greeting, fast, fixed, tenth]
    assert sum(told.accepted for told in phases) == len(taken) - len(taken) // 5
    assert all(told.answers == told.events <= told.accepted for told in phases)
    assert sum(told.answers + sum(told.refused.values()) for told in phases) <= len(taken)
    assert greeting.answers + greeting.refused["503"] == WORKLOADS["single"].connections
    assert fast.refused.keys() == {"503"}
    assert fixed.accepted <= 100 * 0.4 + 1
    assert tenth.accepted <= 0.1 * fast.answers / 0.3 * 0.2 + 1
    assert 0 < fast.p50 <= fast.p99 <= fast.max
    assert 0 < fast.cpu_seconds < 1


async def test_a_server_that_reads_slowly_gets_every_large_request_whole() -> None:
    taken = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal taken
        parts = []
        async for part in request.content.iter_chunked(65_536):
            parts.append(part)
            await asyncio.sleep(0)
        taken += len(json.loads(b"".join(parts))["events"])
        return web.Response()

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/events", answer)
    async with TestServer(app) as server:
        load = _load(str(server.make_url("/events")), workload="mixed")
        (greeting,) = await asyncio.to_thread(lambda: list(load.run()))

    assert greeting.accepted == taken > 0
    assert greeting.size > 260 * greeting.events


async def test_a_server_that_goes_away_gives_no_figures() -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    app = web.Application()
    app.router.add_post("/events", hang_up)
    async with TestServer(app) as server:
        load = _load(str(server.make_url("/events")), Phase(0.1))
        with pytest.raises(OSError, match="closed a connection"):
            await asyncio.to_thread(lambda: list(load.run()))


def test_the_nearest_rank_of_a_hundred() -> None:
    assert [nearest_rank([float(n) for n in range(1, 101)], q) for q in (0.5, 0.99, 1.0)] == [50, 99, 100]


def _told(answers: int) -> Told:
    return Told(
        accepted=2_000,
        answers=answers,
        events=100 * answers,
        size=1_000_000,
        refused={"503": 2},
        seconds=2.0,
        cpu_seconds=0.5,
        p50=1.0,
        p99=2.0,
        max=3.0,
    )


def _rates() -> Rates:
    return Rates(
        [
            Round("batch100", "tidegate", _told(10), _told(5), _told(4), Cost(0.01, 1024 * 1024)),
            Round("batch100", "other", _told(5), _told(2)),
        ],
        [Gathering("tidegate", 1_000, 2 * 1024 * 1024, 3 * 1024 * 1024)],
        {"third on single": "it ended"},
    )


def test_figures_are_per_second_and_ratios_to_ours() -> None:
    found = {(f.system, f.metric): (f.value, f.unit) for f in _rates().figures()}
    assert found["tidegate", "events_per_s"] == (500, "events/s")
    assert found["tidegate", "requests_per_s"] == (5, "requests/s")
    assert found["tidegate", "megabytes_per_s"] == (0.5, "MB/s")
    assert found["tidegate", "cpu_per_event"] == (5, "µs")
    assert found["tidegate", "peak_memory"] == (1, "MiB")
    assert found["tidegate", "refused"] == (6, "requests")
    assert found["tidegate", "load_cpu"] == (25, "%")
    assert found["tidegate", "fixed_p99_ms"] == (2, "ms")
    assert found["tidegate", "memory_per_connection"] == (1.024, "KiB")
    assert found["other", "ratio_to_tidegate"] == (0.5, "×")
    assert ("other", "peak_memory") not in found


def test_the_table_fits_a_terminal_and_says_what_was_left_out() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(_rates().table("title"))
    shown = captured.get()
    assert "…" not in shown
    assert "third on single was left out: it ended" in " ".join(shown.split())
    assert "1,000 open connections, 2 MiB before, 3 after, 1.0 KiB each" in " ".join(shown.split())

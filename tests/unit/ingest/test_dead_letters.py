"""Dead letters over HTTP, on topics in memory: found, counted, exported."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.ingest.intake import MAX_DEAD_LETTER_BYTES
from shared.clock import DAY, to_iso
from shared.topic_search import PIECE_BYTES
from tests.unit.ingest.letter_client import get, keep, listed, post, refused
from tests.unit.ingest.service import NOW, Service


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    async with service.client:
        yield service


async def test_they_are_shown_newest_first_and_only_to_their_organisation(service: Service) -> None:
    await service.one({"event_type": "", "n": 1})
    await service.one(b'{"event_type": "\\ud800"}')
    await keep(service, organisation="else")

    items = (await listed(service))["items"]

    assert [item["reason"] for item in items] == ["lone_surrogate", "event_type_empty"]
    assert items[1]["payload"] == {"event_type": "", "n": 1}
    assert "payload_base64" not in items[1]
    assert items[0]["payload_base64"] == "eyJldmVudF90eXBlIjogIlx1ZDgwMCJ9"
    assert items[0]["received_at"] == "2024-10-22T10:30:00Z"
    assert {item["state"] for item in items} == {"open"}


async def test_one_is_found_by_its_id_and_by_nobody_elses(service: Service) -> None:
    await keep(service, organisation="else")
    letter = await refused(service, {"event_type": "", "n": 1})
    foreign = [f"{p}-0-{check}" for p in range(4) for check in ("00000000", letter[-8:])]

    assert (await get(service, f"/{letter}")).json()["payload"]["n"] == 1
    for other in {*foreign, "0-999999-00000000", "x", "9-9-9", letter[:-1]} - {letter}:
        assert (await get(service, f"/{other}")).status_code == 404


async def test_pages_lead_through_all_of_them_once_while_new_ones_come(service: Service) -> None:
    for n in range(30):
        await service.one({"event_type": "", "n": n})

    found: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = await listed(service, limit=7, **cursor)
        found += [item["payload"]["n"] for item in page["items"]]
        await service.one({"event_type": "", "n": 1_000})
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert found == list(range(29, -1, -1))


async def test_filters_ask_for_reason_origin_type_text_state_and_time(service: Service) -> None:
    await service.one(b'{"event_type":"import","event_id":"x1","event_timestamp":"never"}')
    await service.one({"event_type": "", "note": "needle"})
    service.letters.now += DAY
    await keep(service, origin="kafka", reason="event_type_empty")

    async def found(**query: Any) -> list[str]:
        return [item["reason"] for item in (await listed(service, **query))["items"]]

    assert await found(reason="timestamp_not_rfc3339") == ["timestamp_not_rfc3339"]
    assert await found(origin="kafka") == ["event_type_empty"]
    assert await found(event_type="import") == ["timestamp_not_rfc3339"]
    assert await found(text="needle", reason="event_type_empty") == ["event_type_empty"]
    assert await found(since=to_iso(NOW + DAY)) == ["event_type_empty"]
    assert len(await found(until=to_iso(NOW + DAY))) == 2
    assert await found(since=to_iso(NOW + DAY), until=to_iso(NOW + DAY)) == []
    assert await found(state="replayed") == []
    assert await found(reason="unheard_of") == []


async def test_a_rare_one_is_found_behind_many_others(service: Service) -> None:
    await service.one(b'{"event_type": "a\\u0000"}')
    for n in range(1_000):
        await service.one({"event_type": "", "n": n})

    page = await listed(service, limit=1, reason="nul_character")

    assert [item["reason"] for item in page["items"]] == ["nul_character"]
    assert page["searched"] == 1_001


async def test_a_search_that_is_cut_short_says_where_to_go_on(service: Service) -> None:
    await service.one(b'{"event_type": "a\\u0000"}')
    for n in range(500):
        await service.one({"event_type": "", "n": n})
    slow = service.letters.last

    async def slower(*args: Any, **kwargs: Any) -> Any:
        service.seconds += 2
        return await slow(*args, **kwargs)

    service.letters.last = slower  # type: ignore[method-assign]

    cut = await listed(service, limit=1, reason="nul_character")
    assert cut["items"] == []
    assert 0 < cut["searched"] < 501
    searched, cursor = cut["searched"], cut["next_cursor"]
    while not cut["items"]:
        cut = await listed(service, limit=1, reason="nul_character", cursor=cursor)
        searched, cursor = searched + cut["searched"], cut["next_cursor"]
    assert searched == 501


async def test_large_ones_are_shown_only_as_far_as_memory_allows(service: Service) -> None:
    sent = 2 * PIECE_BYTES // MAX_DEAD_LETTER_BYTES
    for _ in range(sent):
        await keep(service, b"[" * MAX_DEAD_LETTER_BYTES)

    page = await listed(service, limit=10_000)

    assert 0 < len(page["items"]) <= PIECE_BYTES / MAX_DEAD_LETTER_BYTES
    rest = await listed(service, limit=10_000, cursor=page["next_cursor"])
    assert len(page["items"]) + len(rest["items"]) == sent


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"limit": "0"}, "schema_violation"),
        ({"limit": "10001"}, "schema_violation"),
        ({"limit": "many"}, "schema_violation"),
        ({"cursor": "somewhere"}, "bad_cursor"),
        ({"cursor": ""}, "bad_cursor"),
        ({"since": "yesterday"}, "schema_violation"),
        ({"state": "lost"}, "schema_violation"),
        ({"text": ""}, "schema_violation"),
    ],
)
async def test_a_faulty_question_is_refused(service: Service, query: dict[str, Any], reason: str) -> None:
    for path in ("", "/counts", "/export"):
        if path and "limit" in query:
            continue
        answer = await get(service, path, **query)
        assert (answer.status_code, answer.json()["reason"]) == (422, reason)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_any_time_may_be_asked_for(service: Service, time: str) -> None:
    await keep(service)

    assert len((await listed(service, since=time))["items"]) == (time < "2000")
    assert len((await listed(service, until=time))["items"]) == (time > "2000")


async def test_they_are_counted_by_reason_origin_state_and_day(service: Service) -> None:
    await service.one({"event_type": ""})
    letter = await refused(service, b'{"event_type": "a\\u0000"}')
    await keep(service, organisation="else")
    service.letters.now += DAY
    await keep(service)
    await post(service, f"/{letter}/discard")

    counts = (await get(service, "/counts")).json()

    assert counts["total"] == 3
    assert counts["by_reason"] == {"event_type_empty": 1, "nul_character": 1, "too_deep": 1}
    assert counts["by_origin"] == {"http": 2, "kafka": 1}
    assert counts["by_state"] == {"open": 2, "discarded": 1}
    assert counts["by_day"] == {
        "2024-10-22": {"event_type_empty": 1, "nul_character": 1},
        "2024-10-23": {"too_deep": 1},
    }
    assert (counts["searched"], counts["next_cursor"]) == (4, None)
    assert (await get(service, "/counts", reason="too_deep")).json()["total"] == 1


async def test_a_count_that_is_cut_short_goes_on_where_it_stopped(service: Service) -> None:
    for _ in range(20):
        await keep(service)
    slow = service.letters.first

    async def slower(*args: Any, **kwargs: Any) -> Any:
        service.seconds += 6
        return await slow(*args, **kwargs)

    service.letters.first = slower  # type: ignore[method-assign]
    answer = (await get(service, "/counts")).json()
    total = answer["total"]
    assert total < 20
    while answer["next_cursor"]:
        answer = (await get(service, "/counts", cursor=answer["next_cursor"])).json()
        total += answer["total"]
    assert total == 20


async def test_an_export_has_one_on_each_line(service: Service) -> None:
    await service.one(b'{"event_type":\n"",\r\n"n":1}')
    for n in range(2, 50):
        await service.one({"event_type": "", "n": n})

    answer = await get(service, "/export")

    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert sorted(line["payload"]["n"] for line in lines) == list(range(1, 50))
    assert (await get(service, f"/{lines[0]['id']}")).json() == lines[0]
    assert (await get(service, "/export", reason="nul_character")).text == ""


async def test_without_kafka_they_cannot_be_seen_for_a_while(service: Service) -> None:
    letter = await refused(service, {"event_type": ""})
    service.letters.unreachable = True

    answers = [await get(service, path) for path in ("", "/counts", "/export", f"/{letter}")]
    answers += [await post(service, path, {"filter": {}}) for path in ("/replay", "/discard")]
    answers += [await post(service, f"/{letter}/replay"), await post(service, f"/{letter}/discard")]

    assert {answer.status_code for answer in answers} == {503}
    assert all("retry-after" in answer.headers for answer in answers)

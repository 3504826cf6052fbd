"""Lists of events and predictions: filters, pages that neither skip nor repeat, and where a search stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from prometheus_client import CollectorRegistry

from services.aggregator.events_api import event_routes
from services.aggregator.recent_events import LIST_SECONDS, RecentEvents
from shared.clock import DAY, MINUTE, SECOND, to_iso
from shared.http import new_api, service_app
from shared.keys import KeyRing, describe_key, new_key
from shared.messages import Event
from shared.topic_search import AT_ONCE
from shared.topics import EVENTS
from tests.unit.ingest.letter_topic import LetterTopic

NOW = 1_760_000_040_000_000
PREFIX = "/api/v1/streaming-analytics"
PREDICTED = {"input_data": {"a": 1}, "prediction_result": {"risk": "high"}, "confidence_score": 0.9}


class Cursors:
    """How far each partition has been counted."""

    def __init__(self) -> None:
        self.next_offset = 0

    async def shards(self) -> list[dict[str, int]]:
        return [{"shard": n, "next_offset": self.next_offset} for n in range(4)]


class Lists:
    """The routes on topics in memory, asked by somebody of `acme`."""

    def __init__(self) -> None:
        self.events, self.predictions, self.cursors = LetterTopic(NOW), LetterTopic(NOW), Cursors()
        self.seconds = 0.0
        recent = RecentEvents(self.events, self.predictions, cast(Any, self.cursors), self._now)
        api, ring, key = new_api("Lists", "aggregator", "Lists."), KeyRing(), new_key()
        api.include_router(event_routes(recent))
        ring.learn(describe_key(key, organisation="acme", scope="read"))
        app = service_app(
            api, keys=ring, needed=lambda method, path: "read", ready=lambda: None, registry=CollectorRegistry()
        )
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://aggregator", headers={"X-API-Key": key}
        )
        self.slow = 0.0

    def _now(self) -> float:
        self.seconds += self.slow
        return self.seconds

    async def store(self, id: str, event_type: str = "click", *, organisation: str = "acme", **fields: Any) -> None:
        event = Event(
            organisation=organisation,
            event_id=id,
            event_type=event_type,
            **{"time": self.events.now, "received_at": NOW, **fields},
        )
        topic = self.predictions if event_type == "prediction" else self.events
        await topic.append([(EVENTS.key(event), EVENTS.encode(event))])

    async def get(self, what: str = "events", **asked: Any) -> httpx.Response:
        answer = await self.client.get(f"{PREFIX}/{what}", params=asked)
        assert answer.status_code == 200, answer.text
        return answer

    async def ids(self, what: str = "events", **asked: Any) -> list[str]:
        return [item["event_id"] for item in (await self.get(what, **asked)).json()]


def next_of(answer: httpx.Response) -> dict[str, Any] | None:
    """What the `Link` header asks for."""
    link = answer.headers.get("link")
    if link is None:
        return None
    target, _, rel = link.partition("; ")
    assert rel == 'rel="next"'
    return {name: values[0] for name, values in parse_qs(urlsplit(target.strip("<>")).query).items()}


@pytest.fixture
async def lists() -> AsyncIterator[Lists]:
    found = Lists()
    yield found
    await found.client.aclose()


async def test_the_last_stored_comes_first_and_nobody_sees_what_is_others(lists: Lists) -> None:
    for n in range(9):
        await lists.store(f"e{n}", user_id=f"u{n}", organisation="acme" if n != 4 else "other")
    assert await lists.ids() == ["e8", "e7", "e6", "e5", "e3", "e2", "e1", "e0"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"event_type": "buy"}, ["buy"]),
        ({"event_type": "bu"}, []),
        ({"event_id": "mine"}, ["mine"]),
        ({"user_id": "ü"}, ["mine"]),
        ({"anonymous_id": "a"}, ["mine"]),
        ({"session_id": "s"}, ["mine"]),
        ({"job_id": 'j"1'}, ["mine"]),
        ({"job_id": "j"}, []),
        ({"data_source_id": 7}, ["source"]),
        ({"data_source_id": 1, "event_type": "buy"}, ["buy"]),
        ({"from": to_iso(NOW + MINUTE)}, ["later"]),
        ({"to": to_iso(NOW - MINUTE)}, ["earlier"]),
        ({"from": to_iso(NOW - DAY), "to": to_iso(NOW - MINUTE + 1)}, ["earlier"]),
        ({"processed": "false"}, []),
    ],
    ids=str,
)
async def test_filters_take_what_is_exactly_so(lists: Lists, asked: dict[str, Any], found: list[str]) -> None:
    await lists.store("buy", "buy", user_id="u")
    await lists.store("mine", user_id="ü", anonymous_id="a", session_id="s", job_id='j"1')
    await lists.store("source", user_id="u", data_source_id=7, properties={"event_type": "buy", "user_id": "ü"})
    await lists.store("later", user_id="u", time=NOW + MINUTE)
    await lists.store("earlier", user_id="u", time=NOW - MINUTE - 1)
    lists.cursors.next_offset = 100
    assert await lists.ids(**asked) == found


async def test_processed_is_what_has_been_counted(lists: Lists) -> None:
    for n in range(3):
        await lists.store(f"e{n}", user_id="u")
    lists.cursors.next_offset = 2
    assert [e["processed"] for e in (await lists.get()).json()] == [False, True, True]
    assert await lists.ids(processed="true") == ["e1", "e0"]
    assert await lists.ids(processed="false") == ["e2"]


async def test_pages_neither_skip_nor_repeat_while_events_come_in(lists: Lists) -> None:
    for n in range(25):
        await lists.store(f"e{n}", "buy" if n % 2 else "click", user_id=f"u{n % 5}")
    pages: list[list[str]] = []
    asked: dict[str, Any] | None = {"event_type": "buy", "limit": 5}
    while asked is not None:
        answer = await lists.get(**asked)
        pages.append([e["event_id"] for e in answer.json()])
        asked = next_of(answer)
        assert asked is None or (asked["event_type"], asked["limit"]) == ("buy", "5")
        await lists.store(f"new{len(pages)}", "buy", user_id=f"u{len(pages)}")
    assert [e for page in pages for e in page] == [f"e{n}" for n in range(23, 0, -2)]
    assert [len(page) for page in pages[:2]] == [5, 5]


async def test_a_search_that_takes_too_long_says_where_it_goes_on(lists: Lists) -> None:
    for n in range(10):
        await lists.store("rare" if n == 0 else f"e{n}", "rare" if n == 0 else "click", user_id="u")
    lists.slow = LIST_SECONDS / 4
    answer = await lists.get(event_type="rare")
    assert answer.json() == []
    found: list[Any] = []
    while (asked := next_of(answer)) is not None:
        answer = await lists.get(**asked)
        found += answer.json()
    assert [e["event_id"] for e in found] == ["rare"]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"limit": 0}, "schema_violation"),
        ({"limit": 1_001}, "schema_violation"),
        ({"limit": "many"}, "schema_violation"),
        ({"data_source_id": 0}, "schema_violation"),
        ({"processed": "perhaps"}, "schema_violation"),
        ({"from": "yesterday"}, "schema_violation"),
        ({"from": to_iso(NOW), "to": to_iso(NOW)}, "span_empty"),
        ({"cursor": "1-x"}, "bad_cursor"),
        ({"cursor": ""}, "bad_cursor"),
    ],
    ids=str,
)
@pytest.mark.parametrize("what", ["events", "predictions"])
async def test_a_wrong_value_is_named(lists: Lists, what: str, asked: dict[str, Any], reason: str) -> None:
    if what == "predictions" and "processed" in asked:
        asked = {"model_id": "x" * 257}
    answer = await lists.client.get(f"{PREFIX}/{what}", params=asked)
    assert (answer.status_code, answer.json()["reason"]) == (422, reason)


async def test_predictions_are_listed_as_they_were_sent(lists: Lists) -> None:
    properties = {"prediction_type": "churn", "model_id": 10, **PREDICTED, "latency_ms": 12}
    await lists.store("p1", "prediction", user_id="u", time=NOW - SECOND, properties=properties)
    await lists.store("click", user_id="u")
    (found,) = (await lists.get("predictions")).json()
    assert found == {
        "event_id": "p1",
        "prediction_type": "churn",
        "model_id": 10,
        **PREDICTED,
        "timestamp": to_iso(NOW - SECOND),
        "data_source_id": 1,
        "user_id": "u",
        "anonymous_id": None,
        "session_id": None,
        "job_id": None,
        "context": {},
        "extra": {"latency_ms": 12},
        "stored_at": to_iso(NOW),
    }


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"prediction_type": "churn"}, ["p3", "p1"]),
        ({"prediction_type": "chur"}, []),
        ({"model_id": "10"}, ["p2", "p1"]),
        ({"model_id": "m"}, ["p3"]),
        ({"prediction_type": "churn", "model_id": "10"}, ["p1"]),
        ({"user_id": "v"}, ["p3"]),
        ({"data_source_id": 7}, ["p2"]),
        ({"limit": 1}, ["p3"]),
    ],
    ids=str,
)
async def test_predictions_are_found_by_what_they_are(lists: Lists, asked: dict[str, Any], found: list[str]) -> None:
    for id, kind, model, user, source in (
        ("p1", "churn", 10, "u", 1),
        ("p2", "fraud", "10", "u", 7),
        ("p3", "churn", "m", "v", 1),
    ):
        properties = {"prediction_type": kind, "model_id": model, **PREDICTED}
        await lists.store(id, "prediction", user_id=user, data_source_id=source, properties=properties)
    await lists.store("own", "prediction", user_id="w", properties={"weather": "rain"})
    assert await lists.ids("predictions", **asked) == found


async def test_an_outage_of_kafka_is_worth_a_retry(lists: Lists) -> None:
    lists.events.unreachable = True
    answer = await lists.client.get(f"{PREFIX}/events")
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers


async def test_few_search_at_a_time_for_each_holds_pieces_of_the_topic(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(40):
        await lists.store(f"e{n}", user_id=f"u{n}")
    under_way = most = 0
    last = lists.events.last

    async def slowly(*place: Any, **most_of_it: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return await last(*place, **most_of_it)

    monkeypatch.setattr(lists.events, "last", slowly)
    found = await asyncio.gather(*(lists.ids() for _ in range(20)))
    assert [len(ids) for ids in found] == [40] * 20
    assert most <= AT_ONCE

"""Dead letters on real Kafka: read in pieces, and replayed once each by several processes, one of which dies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from services.ingest.http import DEAD_LETTER_PATH
from services.ingest.letters.event_finder import KafkaEventFinder
from shared.clock import HOUR, SECOND, system_clock
from shared.kafka import Publisher, Tail, new_producer
from shared.keys import describe_key, new_key
from shared.messages import DeadLetter, DeadLetterMark, Event
from shared.topic_reader import Topic, TopicReader
from shared.topics import ALERTS, DEAD_LETTER_MARKS, DEAD_LETTERS, EVENTS, KEYS
from tests.integration.aggregation import event, publish_events
from tests.programs import Program
from tests.unit.ingest.topic_suite import TopicSuite
from tests.waiting import eventually


@dataclass(frozen=True, slots=True)
class OnKafka:
    topic: Topic
    kafka: str

    async def write(self, values: Sequence[bytes]) -> tuple[int, int]:
        """To a topic that nobody else uses here."""
        producer = new_producer(self.kafka)
        await producer.start()
        sent = [await producer.send_and_wait(ALERTS.name, value, key=b"k") for value in values]
        await producer.stop()
        return sent[0].partition, sent[0].offset


class TestTopicReader(TopicSuite):
    @pytest_asyncio.fixture
    async def harness(self, kafka: str) -> AsyncIterator[OnKafka]:
        reader = TopicReader(kafka, ALERTS.name)
        await reader.start()
        yield OnKafka(reader, kafka)
        await reader.stop()


async def test_several_searches_share_a_reader(kafka: str) -> None:
    reader = TopicReader(kafka, ALERTS.name)
    await reader.start()
    partition, at = await OnKafka(reader, kafka).write([b"%d" % n for n in range(50)])
    whole = (await reader.stretches())[partition]

    async def read(n: int) -> list[bytes]:
        stretch = type(whole)(at + n, at + n + 5)
        found = await (reader.first if n % 2 else reader.last)(partition, stretch, records=5, size=1_000)
        return [record.value for record in found]

    assert await asyncio.gather(*map(read, range(45))) == [[b"%d" % (n + i) for i in range(5)] for n in range(45)]
    await reader.stop()


async def test_events_are_found_that_were_stored_around_a_time(kafka: str) -> None:
    finder = KafkaEventFinder(kafka)
    stored = [event("acme", f"stored-{n}", user_id=f"u-{n}") for n in range(500)]
    since = system_clock()
    await publish_events(kafka, stored)
    until = system_clock()

    keys = {one.event_id: EVENTS.key(one) for one in stored[:300]}
    assert await finder.stored({**keys, "never": "u-1"}, since, until) == frozenset(keys)
    assert await finder.stored(keys, since - 3 * HOUR, until - 2 * HOUR) == frozenset()
    await finder.stop()


@dataclass(frozen=True, slots=True)
class Site:
    """Two ingest processes on one Kafka."""

    kafka: str
    key: str
    processes: tuple[Program, Program]

    async def post(self, process: int, path: str, body: dict[str, Any]) -> httpx.Response:
        headers = {"X-API-Key": self.key}
        async with httpx.AsyncClient(base_url=self.processes[process].url, headers=headers, timeout=60) as client:
            return await client.post(DEAD_LETTER_PATH + path, json=body)

    async def get(self, path: str) -> dict[str, Any]:
        headers = {"X-API-Key": self.key}
        async with httpx.AsyncClient(base_url=self.processes[1].url, headers=headers, timeout=60) as client:
            answer = await client.get(DEAD_LETTER_PATH + path)
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

    async def keep(self, origin: str, count: int) -> None:
        publisher = Publisher(self.kafka)
        await publisher.start()
        letters = [
            DeadLetter(
                id=f"{origin}-{n}",
                organisation="acme",
                reason="event_type_empty",
                detail="",
                origin=origin,
                received_at=system_clock(),
                payload=b'{"event_type":"","user_id":"u-%d"}' % n,
            )
            for n in range(count)
        ]
        assert not any(await publisher.publish_all(DEAD_LETTERS, letters))
        await publisher.stop()

    async def events(self, event_type: str) -> list[Event]:
        async with _tail(self.kafka, EVENTS.name) as tail:
            found = [EVENTS.decode(record.value) for record in await tail.read(1_000_000, deadline=60)]
        return [one for one in found if one.event_type.startswith(event_type)]


@asynccontextmanager
async def _tail(kafka: str, topic: str) -> AsyncIterator[Tail]:
    tail = Tail(kafka, topic)
    await tail.start()
    try:
        yield tail
    finally:
        await tail.stop()


@pytest_asyncio.fixture(scope="module")
async def site(kafka: str, postgres: str, tmp_path_factory: Any) -> AsyncIterator[Site]:
    key = new_key()
    publisher = Publisher(kafka)
    await publisher.start()
    await publisher.publish(KEYS, describe_key(key, organisation="acme", scope="admin"))
    await publisher.stop()
    logs: Path = tmp_path_factory.mktemp("logs")
    env = {"TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": postgres}
    async with (
        Program("services.ingest", log=logs / "0.log", env=env) as one,
        Program("services.ingest", log=logs / "1.log", env=env) as other,
    ):
        yield Site(kafka, key, (one, other))


async def test_two_processes_that_replay_the_same_letters_differently_replay_each_once(site: Site) -> None:
    count = 2_000
    await site.keep("race", count)

    answers = await asyncio.gather(
        *(
            site.post(n % 2, "/replay", {"filter": {"origin": "race"}, "patch": {"event_type": f"race-{n}"}})
            for n in range(4)
        )
    )

    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["replayed"] for answer in answers) == count
    events = await site.events("race")
    assert len(events) == len({one.event_id for one in events}) == count
    assert (await site.get("/counts?origin=race"))["by_state"] == {"replayed": count}


async def test_a_letter_replayed_twice_at_once_becomes_one_event(site: Site) -> None:
    await site.keep("single", 1)
    (letter,) = (await site.get("?origin=single"))["items"]

    answers = await asyncio.gather(
        *(site.post(n % 2, f"/{letter['id']}/replay", {"patch": {"event_type": f"single-{n}"}}) for n in range(10))
    )

    assert Counter(answer.status_code for answer in answers)[202] == 1
    assert {answer.status_code for answer in answers} <= {202, 409, 503}
    assert len(await site.events("single")) == 1


async def test_kill_9_in_the_middle_of_replays_leaves_each_letter_with_one_event(site: Site) -> None:
    count = 10_000
    await site.keep("killed", count)
    body = {"filter": {"origin": "killed"}, "patch": {"event_type": "killed"}}
    victim = site.processes[0]
    async with _tail(site.kafka, DEAD_LETTER_MARKS.name) as marks:
        for _ in range(2):
            under_way = partial(_grown, marks, await _end(marks))
            replaying = asyncio.create_task(site.post(0, "/replay", body))
            await eventually(under_way, "the replay is under way", every=0.002)
            await victim.kill()
            with pytest.raises(httpx.TransportError):
                await replaying
            await victim.start()

    async def finished() -> bool:
        """What the dead had claimed is left alone for some seconds: they might not be dead."""
        answer = await site.post(0, "/replay", body)
        return answer.status_code == 200 and answer.json()["found"] == 0

    await eventually(finished, "every letter is replayed", every=1)
    assert (await site.get("/counts?origin=killed"))["by_state"] == {"replayed": count}
    # What a kill cut off was sent again with the same id, which counts once.
    assert len({one.event_id for one in await site.events("killed")}) == count


async def _end(tail: Tail) -> int:
    return sum((await tail.end_offsets()).values())


async def _grown(tail: Tail, end: int) -> bool:
    return await _end(tail) > end + 1_000


async def test_an_event_of_a_process_that_died_long_ago_is_found_instead_of_sent_again(site: Site) -> None:
    """What its letter's claim announced, the log holds; only the mark that says so is missing."""
    await site.keep("ancient", 2)
    stored = event("acme", "ancient-event", "ancient", user_id="u-0")
    await publish_events(site.kafka, [stored])
    long_ago = system_clock() - 90 * SECOND
    publisher = Publisher(site.kafka)
    await publisher.start()
    for n, event_id in enumerate(("ancient-event", "never-stored")):
        claim = DeadLetterMark(
            letter=f"ancient-{n}",
            organisation="acme",
            mark="claimed",
            marked_at=long_ago,
            attempt="of the dead",
            event_id=event_id,
            event_key="u-0",
        )
        await publisher.publish(DEAD_LETTER_MARKS, claim)
    await publisher.stop()

    answer = await site.post(1, "/replay", {"filter": {"origin": "ancient"}, "patch": {"event_type": "ancient"}})

    assert (answer.json()["replayed"], answer.json()["hindered"]) == (1, {"already_replayed": 1})
    assert sorted(one.user_id or "" for one in await site.events("ancient")) == ["u-0", "u-1"]
    assert (await site.get("/counts?origin=ancient"))["by_state"] == {"replayed": 2}

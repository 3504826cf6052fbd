"""Another Kafka topic as a source: every record once, through bad records, restarts and dead processes."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from cloudevents.core.bindings.kafka import KafkaMessage, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from shared.clock import system_clock
from tests.integration.sources.world import SOURCES, Ingest, Stored
from tests.waiting import eventually

MAPPING = {
    "event_type": {"path": "type", "default": "order_placed"},
    "event_timestamp": {"path": "at", "format": "unix_ms"},
    "user_id": "customer.id",
    "event_data": {"n": "n", "amount": {"path": "total", "type": "number", "default": 0}},
}
AT = 1_767_323_045_678


@asynccontextmanager
async def foreign_topic(kafka: str, *, partitions: int = 3) -> AsyncIterator[tuple[str, AIOKafkaProducer]]:
    name = f"shop.orders-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    # Some tests write records of long ago, which retention could take at any moment.
    await admin.create_topics([NewTopic(name, partitions, 1, topic_configs={"retention.ms": "-1"})])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        yield name, producer
    finally:
        await producer.stop()


def order(n: int, **more: Any) -> bytes:
    return json.dumps({"n": n, "at": AT, "customer": {"id": 7}, "total": "9.5", **more}).encode()


def config(kafka: str, topic: str, **more: Any) -> dict[str, Any]:
    given = {"bootstrap_servers": [kafka], "topic": topic, "group_id": f"g-{topic}"}
    return {**given, "auto_offset_reset": "earliest", **more}


async def send(producer: AIOKafkaProducer, topic: str, numbers: range) -> None:
    await asyncio.gather(*[await producer.send(topic, order(n), partition=n % 3) for n in numbers])


async def test_records_become_events_as_the_mapping_says(service: Ingest, kafka: str, log: Stored) -> None:
    async with foreign_topic(kafka) as (topic, producer):
        await send(producer, topic, range(30))
        source = await service.create("kafka", config(kafka, topic), key="orders", mapping=MAPPING)

        await log.holds(source["id"], Counter(range(30)))

        event = next(e for e in await log.events(source["id"]) if e.properties["n"] == 5)
        assert (event.organisation, event.event_type, event.user_id) == ("acme", "order_placed", "7")
        assert event.time == AT * 1_000
        assert event.properties == {"n": 5, "amount": 9.5}

        async def told() -> bool:
            health = await service.health(source["id"])
            return bool((health["state"], health["events"], health["lag"]) == ("running", 30, 0))

        await eventually(told, "the source's health tells of 30 events")
        labels = {"organisation": "acme", "source": "orders"}
        assert await service.metric("tidegate_ingest_source_events_total", **labels) == 30
        assert await service.metric("tidegate_ingest_source_up", **labels) == 1


async def test_bad_records_are_dead_lettered_with_their_place_and_hold_up_nothing(
    service: Ingest, kafka: str, log: Stored
) -> None:
    bad = [
        b"",
        b"no json",
        order(1, customer={"id": [7]}),
        b"\xff",
        order(1, at="yesterday"),
        order(1, type=5),
        b"{" * 1_000,
    ]
    async with foreign_topic(kafka, partitions=1) as (topic, producer):
        for raw in bad:
            await producer.send_and_wait(topic, raw)
        await producer.send_and_wait(topic, order(99))
        source = await service.create("kafka", config(kafka, topic), key="hostile", mapping=MAPPING)

        await log.holds(source["id"], Counter([99]))

        letters = await log.letters("source:hostile")
        assert [(letter.partition, letter.offset) for letter in letters] == [(0, n) for n in range(len(bad))]
        assert [letter.payload for letter in letters] == bad
        reasons = [letter.reason for letter in letters]
        assert reasons[:2] == ["malformed_json", "malformed_json"]
        assert set(reasons[4:6]) == {"mapping_failed"}
        assert "mapping.event_timestamp: `at` gives 'yesterday', which is no time in unix_ms" in letters[4].detail
        assert {letter.organisation for letter in letters} == {"acme"}


async def test_a_record_without_a_time_of_its_own_happened_when_it_was_written(
    service: Ingest, kafka: str, log: Stored
) -> None:
    mapping = {"event_type": {"value": "a"}, "event_data": {"n": "n"}}
    async with foreign_topic(kafka, partitions=1) as (topic, producer):
        for n, written in enumerate((system_clock() // 1_000 + 1_800_000, AT, 5)):
            await producer.send_and_wait(topic, order(n), timestamp_ms=written)
        source = await service.create("kafka", config(kafka, topic), key="timeless", mapping=mapping)

        await log.holds(source["id"], Counter(range(3)))

        times = {event.properties["n"]: (event.time, event.received_at) for event in await log.events(source["id"])}
        assert times[1][0] == AT * 1_000
        # Written by clocks that are not set: the arrival is the better guess.
        assert times[0][0] == times[0][1]
        assert times[2][0] == times[2][1]


async def test_a_new_group_that_begins_with_the_latest_record_keeps_that_place_while_paused(
    service: Ingest, kafka: str, log: Stored
) -> None:
    async with foreign_topic(kafka) as (topic, producer):
        await send(producer, topic, range(10))
        latest = config(kafka, topic, auto_offset_reset="latest")
        source = await service.create("kafka", latest, key="latest", mapping=MAPPING)
        await service.becomes(source["id"], "running")

        paused = await service.admin.post(f"{SOURCES}/{source['id']}/pause")
        assert paused.json()["health"]["state"] == "paused"

        async def let_go() -> bool:
            return await service.metric("tidegate_ingest_source_up", source="latest") is None

        await eventually(let_go, "the source is let go of")
        await send(producer, topic, range(10, 20))
        resumed = await service.admin.post(f"{SOURCES}/{source['id']}/resume")
        assert resumed.json()["enabled"] is True

        await log.holds(source["id"], Counter(range(10, 20)))


async def test_dead_letters_are_replayed_through_the_mapping_once_it_is_right(
    service: Ingest, kafka: str, log: Stored
) -> None:
    wrong = {**MAPPING, "event_type": "kind"}
    async with foreign_topic(kafka, partitions=1) as (topic, producer):
        for n in range(3):
            await producer.send_and_wait(topic, order(n))
        source = await service.create("kafka", config(kafka, topic), key="mended", mapping=wrong)

        async def refused() -> bool:
            return len(await log.letters("source:mended")) == 3

        await eventually(refused, "three letters are there")
        await service.admin.patch(f"{SOURCES}/{source['id']}", json={"mapping": MAPPING})
        filters = {"filter": {"origin": "source:mended"}}

        async def replayed() -> bool:
            answer = await service.admin.post("/api/v1/streaming-analytics/dead-letters/replay", json=filters)
            assert answer.status_code == 200, answer.text
            return bool((await log.counted(source["id"])) == Counter(range(3)))

        await eventually(replayed, "the mapping that is right now reads them")
        event = (await log.events(source["id"]))[0]
        assert (event.event_type, event.user_id, event.time) == ("order_placed", "7", AT * 1_000)


async def test_cloudevents_of_the_sdk_arrive_once_in_both_modes_and_a_broken_one_can_be_mended(
    service: Ingest, kafka: str, log: Stored
) -> None:
    attributes = {"source": "/shop", "type": "order", "specversion": "1.0", "datacontenttype": "application/json"}
    events = [CloudEvent({**attributes, "id": str(n)}, {"n": n}) for n in range(4)]
    async with foreign_topic(kafka, partitions=1) as (topic, producer):
        messages = [(to_binary if n % 2 else to_structured)(event, JSONFormat()) for n, event in enumerate(events)]
        whole = to_binary(events[3], JSONFormat())
        broken = KafkaMessage({**whole.headers, "ce_id": b"4"}, None, b"{")
        for message in (*messages, broken, to_structured(events[3], JSONFormat())):
            await producer.send_and_wait(topic, message.value, headers=list(message.headers.items()))
        source = await service.create("kafka", config(kafka, topic, format="cloudevents"), key="cloudevents")
        await log.holds(source["id"], Counter(range(4)))

        async def all_read() -> bool:
            return bool((await service.health(source["id"]))["events"] == 5)

        await eventually(all_read, "the event that came again is read")
        assert {event.event_id for event in await log.events(source["id"])} == {f"/shop {n}" for n in range(4)}
        (letter,) = await log.letters("source:cloudevents")
        assert (letter.reason, letter.partition, letter.offset) == ("schema_violation", 0, 4)
        mended = {"filter": {"origin": "source:cloudevents"}, "patch": {"data": {"n": 4}, "data_base64": None}}

        async def replayed() -> bool:
            answer = await service.admin.post("/api/v1/streaming-analytics/dead-letters/replay", json=mended)
            assert answer.status_code == 200, answer.text
            return bool((await log.counted(source["id"])) == Counter(range(5)))

        await eventually(replayed, "the mended event is there")
        assert {event.event_id for event in await log.events(source["id"])} == {f"/shop {n}" for n in range(5)}

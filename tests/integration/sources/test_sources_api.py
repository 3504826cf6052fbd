"""Data sources over REST: made, shown, changed and removed, without ever showing a secret again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from shared.kafka import Tail
from shared.sealing import new_sealing_key
from shared.topics import SOURCES as SOURCES_TOPIC
from tests.integration.sources.world import SOURCES, Ingest, ingest, publish_keys
from tests.waiting import eventually

ADMIN = "/api/v1/admin/sources"
SECRET = "s3cret-t0ken"
SASL = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "u", "sasl_password": SECRET}
KAFKA = {
    "bootstrap_servers": ["127.0.0.1:1"],
    "topic": "production.events",
    "group_id": "erp-consumer",
    "auto_offset_reset": "latest",
}


async def test_the_seeds_request_makes_a_source_with_a_number(service: Ingest) -> None:
    body = {
        "source_name": "Production Events",
        "source_type": "kafka",
        "connection_config": KAFKA,
        "description": "Production event stream",
    }
    answer = await service.admin.post(SOURCES, json=body)

    assert answer.status_code == 201
    made = answer.json()
    assert {name: made[name] for name in body} == body
    assert isinstance(made["id"], int)
    assert made["id"] > 1
    assert (made["key"], made["version"], made["enabled"]) == ("production-events", 1, True)
    assert (await service.read.get(f"{SOURCES}/{made['id']}")).json()["source_name"] == "Production Events"
    again = await service.admin.post(SOURCES, json=body)
    assert (again.status_code, again.json()["reason"]) == (409, "source_exists")


async def test_sources_are_listed_by_type_and_page_after_the_built_in_one(service: Ingest) -> None:
    made = [await service.create("kafka", KAFKA, key=f"listed-{n}", enabled=False) for n in range(3)]
    await service.create("sse", {"url": "http://127.0.0.1:1/"}, key="listed-sse", enabled=False)

    everything = (await service.read.get(SOURCES)).json()
    pages = [(await service.read.get(SOURCES, params={"limit": 2, "offset": n})).json() for n in (0, 2, 4, 6, 8)]
    of_kafka = (await service.read.get(SOURCES, params={"source_type": "KAFKA"})).json()
    paused = await service.read.get(SOURCES, params={"enabled": False, "source_name": "LISTED-", "limit": 3})
    link = paused.headers["Link"].partition(">")[0].strip("<")
    rest = await service.read.get(link)
    on = (await service.read.get(SOURCES, params={"enabled": True, "source_name": "built-in"})).json()

    assert (everything[0]["id"], everything[0]["source_type"]) == (1, "builtin")
    assert [source["id"] for page in pages for source in page] == [source["id"] for source in everything][:10]
    assert {source["id"] for source in made} <= {source["id"] for source in of_kafka}
    assert {source["source_type"] for source in of_kafka} == {"kafka"}
    assert [s["key"] for s in [*paused.json(), *rest.json()]] == ["listed-0", "listed-1", "listed-2", "listed-sse"]
    assert "Link" not in rest.headers
    assert [source["id"] for source in on] == [1]


async def test_secrets_are_never_shown_and_stand_nowhere_in_clear(service: Ingest, postgres: str, kafka: str) -> None:
    made = await service.create("kafka", {**KAFKA, **SASL}, key="sealed", enabled=False)
    shown = [
        json.dumps(made),
        (await service.read.get(f"{SOURCES}/{made['id']}")).text,
        (await service.read.get(SOURCES)).text,
        (await service.admin.get(f"{ADMIN}/sealed")).text,
        service.log.read_text(),
    ]
    connection = await asyncpg.connect(postgres)
    shown.append(str(await connection.fetchval("SELECT spec FROM ingest.sources WHERE key = 'sealed'")))
    await connection.close()
    tail = Tail(kafka, SOURCES_TOPIC.name)
    await tail.start()
    shown += [str(record.value) for record in await tail.read(1_000)]
    await tail.stop()

    assert any("sealed" in text for text in shown[5:])
    assert [text for text in shown if SECRET in text] == []
    assert made["connection_config"]["sasl_password"] == "********"


async def test_a_patch_changes_what_it_names_and_keeps_the_secret(service: Ingest) -> None:
    made = await service.create("kafka", {**KAFKA, **SASL}, key="patched", enabled=False)
    path = f"{SOURCES}/{made['id']}"

    patched = await service.admin.patch(path, json={"connection_config": {"topic": "other"}, "description": "new"})
    same = await service.admin.patch(path, json={"connection_config": {"sasl_password": "********"}})
    moved = await service.admin.patch(path, json={"connection_config": {"bootstrap_servers": ["elsewhere:9092"]}})

    assert patched.status_code == 200, patched.text
    assert patched.json()["connection_config"] == {**KAFKA, **SASL, "topic": "other", "sasl_password": "********"}
    assert (patched.json()["description"], patched.json()["version"]) == ("new", 2)
    assert (same.status_code, same.json()["version"]) == (200, 2)
    assert (moved.status_code, moved.json()["place"]) == (422, "connection_config.sasl_password")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"source_name": ""}, "source_name"),
        ({"source_type": "mqtt"}, "source_type"),
        ({"connection_config": {}}, "connection_config.topic"),
        ({"connection_config": {**KAFKA, "topic": 5}}, "connection_config.topic"),
        ({"mapping": {"event_type": "a["}}, "mapping.event_type"),
        ({"colour": "red"}, "colour"),
        ({"enabled": "no"}, "enabled"),
        ({"key": "A/B"}, "key"),
        ({"description": "x" * 5_000}, "description"),
    ],
)
async def test_a_faulty_source_is_refused_with_the_place_of_the_fault(
    service: Ingest, change: dict[str, Any], place: str
) -> None:
    body = {"source_name": "Faulty", "source_type": "kafka", "connection_config": KAFKA, **change}
    answer = await service.admin.post(SOURCES, json=body)

    assert (answer.status_code, answer.json()["reason"]) == (422, "definition_invalid"), answer.text
    assert answer.json()["place"] == place
    if place == "source_type":
        assert answer.json()["source_types"] == ["kafka", "http", "websocket", "sse", "webhook"]


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"{", b'{"source_name":"\\ud800"}', b'{"a":NaN}'])
async def test_a_body_that_is_no_source_is_a_fault_of_the_client(service: Ingest, body: bytes) -> None:
    for method, path in (("POST", SOURCES), ("PATCH", f"{SOURCES}/2"), ("PUT", f"{ADMIN}/x")):
        answer = await service.admin.request(method, path, content=body)
        assert 400 <= answer.status_code < 500, answer.text
        assert answer.json()["reason"]


async def test_a_removed_source_is_gone_and_its_key_is_free_for_another(service: Ingest) -> None:
    made = await service.create("kafka", KAFKA, key="removed", enabled=False)
    path = f"{SOURCES}/{made['id']}"

    assert (await service.admin.delete(path)).status_code == 200
    for method, where in (("GET", path), ("DELETE", path), ("POST", f"{path}/pause"), ("GET", f"{ADMIN}/removed")):
        answer = await service.admin.request(method, where)
        assert (answer.status_code, answer.json()["reason"]) == (404, "source_unknown")
    again = await service.create("kafka", KAFKA, key="removed", enabled=False)
    assert again["id"] > made["id"]


async def test_the_built_in_source_is_there_and_cannot_be_changed(service: Ingest) -> None:
    assert (await service.source(1))["health"]["state"] == "running"
    for method, path in (("PATCH", f"{SOURCES}/1"), ("DELETE", f"{SOURCES}/1"), ("POST", f"{SOURCES}/1/pause")):
        answer = await service.admin.request(method, path, json={} if method == "PATCH" else None)
        assert (answer.status_code, answer.json()["reason"]) == (409, "source_built_in")


async def test_looking_takes_a_read_key_and_changing_an_admin_key(service: Ingest) -> None:
    assert (await service.ingest.get(SOURCES)).status_code == 403
    for client in (service.read, service.ingest):
        assert (await client.post(SOURCES, json={})).status_code == 403
        assert (await client.put(f"{ADMIN}/x", json={})).status_code == 403
        assert (await client.get(ADMIN)).status_code == 403


async def test_applying_the_same_source_again_changes_nothing(service: Ingest) -> None:
    spec = {
        "source_name": "Applied",
        "source_type": "kafka",
        "connection_config": {**KAFKA, **SASL},
        "enabled": False,
    }
    answers = [await service.admin.put(f"{ADMIN}/applied", json=spec) for _ in range(2)]
    hidden = {**spec, "connection_config": {**KAFKA, **SASL, "sasl_password": "********"}}
    answers.append(await service.admin.put(f"{ADMIN}/applied", json=hidden))
    answers.append(await service.admin.put(f"{ADMIN}/applied", json={**spec, "description": "new"}))
    faulty = await service.admin.put(f"{ADMIN}/applied", json={**spec, "connection_config": {}})

    assert [answer.status_code for answer in answers] == [201, 200, 200, 200]
    assert [answer.json()["status"] for answer in answers] == ["created", "unchanged", "unchanged", "changed"]
    assert (faulty.status_code, faulty.json()["place"]) == (422, "spec.connection_config.topic")


async def test_a_mapping_can_be_tried_on_samples(service: Ingest) -> None:
    mapping = {"event_type": "kind", "event_timestamp": {"path": "at", "format": "unix_s"}, "user_id": "user"}
    samples = [{"kind": "a", "at": 1_700_000_000, "user": 7}, {"kind": 5}, "no json", {"kind": "a", "at": 5}]
    answer = await service.admin.post(f"{SOURCES}/mapping/test", json={"mapping": mapping, "samples": samples})
    faulty = await service.admin.post(
        f"{SOURCES}/mapping/test", json={"mapping": {"event_type": "a["}, "samples": [1]}
    )

    assert answer.status_code == 200, answer.text
    mapped, *rest = answer.json()["results"]
    assert (mapped["event"]["event_type"], mapped["event"]["user_id"]) == ("a", "7")
    assert mapped["event"]["time"] == 1_700_000_000_000_000
    assert [result["reason"] for result in rest] == ["mapping_failed", "malformed_json", "timestamp_before_2000"]
    assert (faulty.status_code, faulty.json()["place"]) == (422, "mapping.event_type")


async def test_a_far_end_that_does_not_answer_shows_in_the_health(service: Ingest) -> None:
    made = await service.create("kafka", KAFKA, key="unreachable")
    await service.becomes(made["id"], "retrying")
    health = await service.health(made["id"])
    assert health["last_error"].startswith("KafkaConnectionError: Unable to bootstrap")
    assert health["last_error_at"] is not None
    assert await service.metric("tidegate_ingest_source_up", source="unreachable") == 0
    await service.admin.delete(f"{SOURCES}/{made['id']}")


async def test_topics_of_our_own_kafka_are_refused_by_whatever_name_it_goes(service: Ingest, kafka: str) -> None:
    port = kafka.rpartition(":")[2]
    config = {"bootstrap_servers": [f"localhost:{port}"], "topic": "events.v1", "auto_offset_reset": "earliest"}
    made = await service.create("kafka", config, key="own-topic")
    await service.becomes(made["id"], "failed")
    health = await service.health(made["id"])
    assert (health["events"], "events.v1 is a topic of this installation" in health["last_error"]) == (0, True)
    await service.admin.delete(f"{SOURCES}/{made['id']}")


async def test_a_new_sealing_key_takes_over_and_a_lost_postgres_gets_its_sources_back(
    kafka: str, postgres: str, tmp_path: Path
) -> None:
    await publish_keys(kafka)
    async with ingest(kafka, postgres, tmp_path) as before:
        made = await before.create("kafka", {**KAFKA, **SASL}, key="lasting", enabled=False)
    keys = tmp_path / "sealing.keys"
    old = keys.read_text()
    keys.write_text(f"{new_sealing_key()}\n{old}")
    connection = await asyncpg.connect(postgres)
    await connection.execute(
        "TRUNCATE ingest.sources, ingest.source_runs; ALTER SEQUENCE ingest.source_ids RESTART 2"
    )

    async with ingest(kafka, postgres, tmp_path) as after:

        async def restored() -> bool:
            return (await after.admin.get(f"{ADMIN}/lasting")).status_code == 200

        await eventually(restored, "the source is there again")
        found = (await after.admin.get(f"{ADMIN}/lasting")).json()
        assert (found["id"], found["connection_config"]) == (made["id"], made["connection_config"])
        fresh = await after.create("kafka", KAFKA, key="fresh", enabled=False)
        assert fresh["id"] > made["id"]

        async def sealed_anew() -> bool:
            return bool(await connection.fetchval("SELECT version FROM ingest.sources WHERE key = 'lasting'") == 2)

        await eventually(sealed_anew, "its secret is sealed with the new key")

    keys.write_text(keys.read_text().replace(old, ""))
    async with ingest(kafka, postgres, tmp_path) as rotated:
        await eventually(lambda: _opens(rotated), "the new key alone opens it")
    keys.write_text(new_sealing_key())
    async with ingest(kafka, postgres, tmp_path) as lost:
        health = (await lost.admin.get(f"{ADMIN}/lasting")).json()["health"]
        assert (health["state"], "sealing keys" in health["last_error"]) == ("failed", True)
        again = await lost.admin.patch(f"{SOURCES}/{made['id']}", json={"connection_config": {"sasl_password": "n"}})
        assert again.json()["health"]["state"] == "paused"
    await connection.close()


async def _opens(service: Ingest) -> bool:
    return bool((await service.admin.get(f"{ADMIN}/lasting")).json()["health"]["state"] == "paused")

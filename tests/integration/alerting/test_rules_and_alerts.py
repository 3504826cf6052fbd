"""Rules, alerts and the silence of the aggregator on real Kafka and Postgres; and what bad input comes to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.clock import DAY, MINUTE, system_clock
from shared.kafka import Publisher, new_producer
from shared.keys import describe_key, new_key
from shared.topics import KEYS, METRIC_UPDATES
from tests.integration.alerting.process import Aggregator, Alerting, Listener
from tests.waiting import eventually

ALERTS = "/api/v1/streaming-analytics/alerts"
RATIO = {"type": "ratio", "numerator": {"event": "import"}, "denominator": {"event": "import"}}
RULE: dict[str, Any] = {
    "direction": "above",
    "warning": "5%",
    "critical": "10%",
    "minimum_sample": 20,
    "window": "2h",
}


async def _rule_is(service: Alerting, key: str, *states: str) -> dict[str, Any]:
    """The rule, once its groups are in these states (a level if firing)."""

    async def reached() -> bool:
        shown = await service.rule(key)
        return [g["level"] or g["state"] for g in shown["groups"]] == list(states)

    await eventually(reached, f"{key} is {states}; see the log:\n{service.tail()}")
    return await service.rule(key)


async def test_a_rule_fires_escalates_and_recovers(
    service: Alerting, aggregator: Aggregator, listener: Listener
) -> None:
    await aggregator.define("failure_rate", RATIO)
    await service.define("rule", "rate", {**RULE, "metric": "failure_rate"})
    await aggregator.ratio("failure_rate", 19, 19)
    await _rule_is(service, "rate", "ok")
    await aggregator.ratio("failure_rate", 19, 300)
    shown = await _rule_is(service, "rate", "warning")
    assert shown["groups"][0]["value"] == pytest.approx(19 / 300)
    assert shown["transitions"][0]["evidence"]["n"] == 300
    await aggregator.ratio("failure_rate", 40, 300)
    await _rule_is(service, "rate", "critical")
    await aggregator.ratio("failure_rate", 40, 3_000)
    await _rule_is(service, "rate", "ok")

    async def told() -> bool:
        stages = [(a.status, a.severity) for _, a in listener.alerts if a.key == "rule:rate"]
        return stages == [("open", "warning"), ("open", "critical"), ("resolved", "critical")]

    await eventually(told, "alerts.v1 tells the three stages")


async def test_a_ratio_is_never_decided_on_half_of_a_commit(service: Alerting, aggregator: Aggregator) -> None:
    await aggregator.define("whole_ratio", RATIO)
    await service.define("rule", "whole", {**RULE, "metric": "whole_ratio"})
    await aggregator.ratio("whole_ratio", 8, 100)
    await _rule_is(service, "whole", "warning")
    for times in range(2, 12):
        # Alone, each numerator would be critical.
        await aggregator.ratio("whole_ratio", 8 * 2**times, 100 * 2**times)
    await aggregator.ratio("whole_ratio", 1, 2**20)
    shown = await _rule_is(service, "whole", "ok")
    assert [t["to"] for t in shown["transitions"]] == ["ok", "warning"]


async def test_a_numerator_without_a_denominator_is_decided_on_soon(
    service: Alerting, aggregator: Aggregator
) -> None:
    await aggregator.define("lonely_ratio", RATIO)
    await service.define("rule", "lonely", {**RULE, "metric": "lonely_ratio"})
    await aggregator.ratio("lonely_ratio", 0, 100)
    await aggregator.send("lonely_ratio", "numerator", n=50)
    await _rule_is(service, "lonely", "critical")


async def test_an_organisation_sees_and_changes_nothing_of_another(
    service: Alerting, aggregator: Aggregator, publisher: Publisher
) -> None:
    await service.define("breaker", "private", {"metric": "m", "flag": "f"})
    await service.define("rule", "private", {**RULE, "metric": "m"})
    await service.define("channel", "private", {"type": "slack", "url": "http://127.0.0.1:9/private"})
    body = {"alert_type": "private", "alert_title": "ours"}
    alert = (await service.ingest.post(ALERTS, json=body)).json()
    key = new_key()
    await publisher.publish(KEYS, describe_key(key, organisation="rival", scope="admin"))
    rival = {"X-API-Key": key}

    async def known() -> bool:
        return (await service.nobody.get(ALERTS, headers=rival)).status_code == 200

    await eventually(known, "the other organisation's key is known")
    for path in (ALERTS, *(f"/api/v1/admin/{kind}" for kind in ("rules", "breakers", "channels"))):
        assert (await service.nobody.get(path, headers=rival)).json() == [], path
    for method, path, sent in (
        ("GET", f"{ALERTS}/{alert['id']}", None),
        ("POST", f"{ALERTS}/acknowledge", {"alert_id": alert["id"]}),
        ("POST", f"{ALERTS}/resolve", {"alert_id": alert["id"]}),
        ("GET", "/api/v1/admin/rules/private", None),
        ("GET", "/api/v1/admin/breakers/private", None),
        ("POST", "/api/v1/admin/breakers/private/close", {}),
        ("GET", "/api/v1/admin/channels/private", None),
        ("POST", "/api/v1/admin/channels/private/test", None),
        ("DELETE", "/api/v1/admin/channels/private", None),
    ):
        answer = await service.nobody.request(method, path, json=sent, headers=rival)
        assert answer.status_code == 404, (method, path, answer.text)
    created = await service.nobody.put(
        "/api/v1/admin/breakers/private", json={"metric": "x", "flag": "y"}, headers=rival
    )
    assert created.json() == {"key": "private", "version": 1, "status": "created"}
    assert (await service.breaker("private"))["spec"] == {"metric": "m", "flag": "f"}
    assert [a["status"] for a in await service.alerts(alert_type="private")] == ["open"]
    assert (await service.admin.delete("/api/v1/admin/channels/private")).status_code == 200


async def test_a_rule_that_comes_later_sees_what_was_sent_before(service: Alerting, aggregator: Aggregator) -> None:
    await aggregator.define("earlier", {"type": "count", "group_by": ["properties.variant"]})
    await aggregator.send("earlier", "value", ("a",), n=50)
    await aggregator.send("earlier", "value", ("b",), n=1)

    async def read() -> bool:
        return bool(await service.metric("tidegate_alerting_revision", subject="earlier"))

    await eventually(read, "the updates are read")
    await service.define("rule", "later", {"metric": "earlier", "direction": "above", "critical": 10})
    shown = await _rule_is(service, "later", "critical", "ok")
    assert shown["groups"][0]["group"] == {"properties.variant": "a"}
    assert shown["groups"][0]["alert"] == 'rule:later:["a"]'


async def test_disabling_a_rule_ends_its_alert(service: Alerting, aggregator: Aggregator) -> None:
    await aggregator.define("noisy", {"type": "count"})
    await service.define(
        "rule", "noise", {"metric": "noisy", "direction": "above", "critical": 10, "alert_type": "no"}
    )
    await aggregator.send("noisy", "value", n=10)
    await _rule_is(service, "noise", "critical")
    spec = {"metric": "noisy", "direction": "above", "critical": 10, "alert_type": "no", "enabled": False}
    await service.define("rule", "noise", spec)
    shown = await _rule_is(service, "noise", "ok")
    assert shown["transitions"][0]["reason"] == "disabled"
    assert [a["status"] for a in await service.alerts(alert_type="no")] == ["resolved"]


async def test_an_alert_resolved_by_hand_stays_so_until_its_condition_comes_back(
    service: Alerting, aggregator: Aggregator
) -> None:
    await aggregator.define("by_hand", {"type": "value"})
    spec = {"metric": "by_hand", "direction": "below", "warning": 4, "critical": 3, "alert_type": "stars"}
    await service.define("rule", "stars", spec)
    await aggregator.send("by_hand", "value", n=2, sum="7000000")
    await _rule_is(service, "stars", "warning")
    (alert,) = await service.alerts(alert_type="stars")
    body = {"alert_id": alert["id"], "resolution_notes": "we know"}
    resolved = (await service.admin.post(f"{ALERTS}/resolve", json=body)).json()
    assert (resolved["status"], resolved["resolution_notes"]) == ("resolved", "we know")

    await aggregator.send("by_hand", "value", n=2, sum="4000000")
    await _rule_is(service, "stars", "critical")
    assert [a["status"] for a in await service.alerts(alert_type="stars")] == ["resolved"]
    await aggregator.send("by_hand", "value", n=2, sum="10000000")
    await _rule_is(service, "stars", "ok")
    await aggregator.send("by_hand", "value", n=2, sum="7000000")
    await _rule_is(service, "stars", "warning")
    assert [a["status"] for a in await service.alerts(alert_type="stars")] == ["open", "resolved"]


async def test_an_alert_over_rest_goes_through_its_life_and_repeats_change_nothing(service: Alerting) -> None:
    sent = {
        "alert_type": "anomaly_detection",
        "alert_title": "High Error Rate Detected",
        "alert_message": "Error rate exceeded 5% threshold",
        "severity": "WARNING",
        "data_source_id": 1,
        "alert_data": {"error_rate": 0.067, "threshold": 0.05},
    }
    created = await service.ingest.post(ALERTS, json=sent)
    assert created.status_code == 201
    alert = created.json()
    assert alert == {
        **sent,
        "severity": "warning",
        "id": alert["id"],
        "status": "open",
        "created_at": alert["created_at"],
        "acknowledged_at": None,
        "resolved_at": None,
        "resolution_notes": None,
    }
    acknowledged = (await service.admin.post(f"{ALERTS}/acknowledge", json={"alert_id": alert["id"]})).json()
    assert acknowledged["status"] == "acknowledged"
    again = await service.admin.post(f"{ALERTS}/acknowledge", json={"alert_id": alert["id"]})
    assert (again.status_code, again.json()) == (200, acknowledged)
    body = {"alert_id": alert["id"], "resolution_notes": "Issue resolved by restarting service"}
    resolved = (await service.admin.post(f"{ALERTS}/resolve", json=body)).json()
    assert (resolved["status"], resolved["resolution_notes"]) == ("resolved", body["resolution_notes"])
    twice = await service.admin.post(f"{ALERTS}/resolve", json={"alert_id": alert["id"], "resolution_notes": "no"})
    assert (twice.status_code, twice.json()) == (200, resolved)
    late = await service.admin.post(f"{ALERTS}/acknowledge", json={"alert_id": alert["id"]})
    assert late.json()["status"] == "resolved"
    shown = (await service.read.get(f"{ALERTS}/{alert['id']}")).json()
    assert shown == {**resolved, "notifications": []}


async def test_alerts_are_listed_newest_first_by_status_severity_and_type(service: Alerting) -> None:
    for number, severity in enumerate(["info", "Error", "CRITICAL"]):
        body = {"alert_type": "listed", "alert_title": str(number), "severity": severity}
        assert (await service.ingest.post(ALERTS, json=body)).status_code == 201
    assert [a["alert_title"] for a in await service.alerts(alert_type="listed")] == ["2", "1", "0"]
    assert [a["alert_title"] for a in await service.alerts(alert_type="listed", limit=1, offset=1)] == ["1"]
    assert [a["alert_title"] for a in await service.alerts(alert_type="listed", severity="ERROR")] == ["1"]
    assert await service.alerts(alert_type="listed", status="acknowledged") == []


async def test_who_may_do_what(service: Alerting) -> None:
    body = {"alert_type": "x", "alert_title": "y"}
    assert (await service.read.post(ALERTS, json=body)).status_code == 403
    assert (await service.ingest.get(ALERTS)).status_code == 403
    assert (await service.ingest.post(f"{ALERTS}/resolve", json={"alert_id": 1})).status_code == 403
    assert (await service.read.get("/api/v1/admin/rules")).status_code == 403
    assert (await service.nobody.get(ALERTS)).status_code == 401
    assert (await service.nobody.get("/api/v1/openapi/alerting.json")).json()["info"]["title"] == "Tidegate alerting"


async def test_definitions_are_created_changed_or_left_and_listed(service: Alerting) -> None:
    spec = {"metric": "m", "flag": "f"}
    path = "/api/v1/admin/breakers/listed"
    first = await service.admin.put(path, json=spec)
    assert (first.status_code, first.json()) == (201, {"key": "listed", "version": 1, "status": "created"})
    same = await service.admin.put(path, json=spec)
    assert (same.status_code, same.json()["status"]) == (200, "unchanged")
    other = await service.admin.put(path, json={**spec, "timeout_ms": 500})
    assert other.json() == {"key": "listed", "version": 2, "status": "changed"}
    listed = (await service.admin.get("/api/v1/admin/breakers")).json()
    assert {"key": "listed", "version": 2, "spec": {**spec, "timeout_ms": 500}} in listed

    async def noticed() -> bool:
        return bool((await service.breaker("listed"))["problem"] == "the metric is not defined")

    await eventually(noticed, "it says that its metric is missing")


_DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
_HOSTILE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"x"',
    b'{"x":NaN}',
    b'{"alert_id":1e999}',
    b'{"alert_id":1180591620717411303424}',
    b'{"alert_id":"1"}',
    b'{"alert_id":true}',
    b'{"alert_id":null}',
    b'{"alert_type":"a\\u0000","alert_title":"b"}',
    b'{"alert_type":"\\ud800","alert_title":"b"}',
    b'{"alert_type":"a","alert_title":"b","severity":"dire"}',
    b'{"alert_type":"a","alert_title":"b","data_source_id":9223372036854775808}',
    b'{"alert_type":"a","alert_title":"b","alert_data":[]}',
    b'{"alert_type":"a","alert_title":"b","nonsense":1}',
    b'{"metric":"m","direction":"above","warning":1180591620717411303424}',
    b'{"metric":"m","direction":"above","warning":1e400}',
    b'{"metric":{},"flag":[]}',
    json.dumps({"alert_type": "a", "alert_title": "x" * 1_000_000}).encode(),
    json.dumps({"metric": "m", "flag": "f", "title": "x" * 1_000_000}).encode(),
    _DEEP,
    b"\xff\xfe",
]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", ALERTS),
        ("POST", f"{ALERTS}/acknowledge"),
        ("POST", f"{ALERTS}/resolve"),
        ("PUT", "/api/v1/admin/rules/hostile"),
        ("PUT", "/api/v1/admin/breakers/hostile"),
    ],
)
async def test_bad_bodies_are_refused_by_name(service: Alerting, method: str, path: str) -> None:
    for body in _HOSTILE:
        answer = await service.admin.request(method, path, content=body)
        assert 400 <= answer.status_code < 500, (body[:80], answer.text[:300])
        assert answer.json()["reason"], body[:80]
    assert (await service.nobody.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        f"{ALERTS}?limit=0",
        f"{ALERTS}?limit=99999999999999999999",
        f"{ALERTS}?offset=-1",
        f"{ALERTS}?status=broken",
        f"{ALERTS}?severity=NaN",
        f"{ALERTS}?alert_type=%00",
        f"{ALERTS}/0",
        f"{ALERTS}/x",
        f"{ALERTS}/9223372036854775808",
        f"{ALERTS}/9223372036854775807",
        "/api/v1/admin/breakers/nobody",
        "/api/v1/admin/rules/%00",
        "/api/v1/admin/rules/" + "x" * 300,
        "/api/v1/admin/rules/%ED%A0%80",
    ],
)
async def test_bad_addresses_are_refused(service: Alerting, path: str) -> None:
    answer = await service.admin.get(path)
    assert 400 <= answer.status_code < 500, answer.text


async def test_acting_on_what_is_not_there_is_404(service: Alerting) -> None:
    for path, body in (
        (f"{ALERTS}/acknowledge", {"alert_id": 2**62}),
        (f"{ALERTS}/resolve", {"alert_id": 2**62, "resolution_notes": "x"}),
        ("/api/v1/admin/breakers/nobody/close", {}),
    ):
        assert (await service.admin.post(path, json=body)).status_code == 404, path
    hostile = await service.admin.post("/api/v1/admin/breakers/listed/close", json={"reason": 5})
    assert hostile.status_code == 422


async def test_bad_records_and_old_updates_do_not_stop_it(
    kafka: str, service: Alerting, aggregator: Aggregator
) -> None:
    producer = new_producer(kafka)
    await producer.start()
    hostile = [b"", b"nonsense", b"null", b'{"organisation":5}', b'{"series":"\xff"}', b'{"x":' + b"[" * 100_000]
    for topic in (METRIC_UPDATES.name, "heartbeats.v1", "switches.v1", "rules.v1", "breakers.v1", "metrics.v1"):
        for value in hostile:
            await producer.send_and_wait(topic, value, key=b"bad", partition=0)
        await producer.send_and_wait(topic, None, key=b"tombstone", partition=0)
    await producer.stop()
    await aggregator.send("unsound", "value", n=1, sum="NaN")
    await aggregator.send("unsound", "value", n=1, sketch=b"abc")
    await aggregator.send("unsound", "value", ("\x00",), n=1)
    await aggregator.send("checked", "value", window=system_clock() // MINUTE * MINUTE - 2 * DAY, n=1)
    await aggregator.send("checked", "value", n=1)

    async def read() -> bool:
        return (await service.metric("tidegate_alerting_revision", subject="checked")) is not None

    await eventually(read, "what follows is read")
    assert await service.metric("tidegate_alerting_undecodable_total") == 6 * len(hostile) + 3
    assert (await service.metric("tidegate_alerting_updates_total", verdict="expired") or 0) >= 1
    assert (await service.nobody.get("/readyz")).status_code == 200


async def test_a_silent_aggregator_is_an_alert_of_its_own(service: Alerting, aggregator: Aggregator) -> None:
    aggregator.beating = False
    try:

        async def raised() -> bool:
            return bool(await service.alerts(alert_type="aggregator_silent", status="open"))

        await eventually(raised, "the silence is told", seconds=60)
    finally:
        aggregator.beating = True
    (alert,) = await service.alerts(alert_type="aggregator_silent")
    assert alert["severity"] == "critical"
    assert alert["alert_data"]["silent_shards"] == [0, 1, 2, 3]

    async def over() -> bool:
        return [a["status"] for a in await service.alerts(alert_type="aggregator_silent")] == ["resolved"]

    await eventually(over, "the silence is over")


async def test_sigterm_ends_it_cleanly(service: Alerting) -> None:
    assert await service.terminate() == 0

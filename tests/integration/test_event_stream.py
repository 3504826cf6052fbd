"""Events over a WebSocket: acknowledged once stored, bounded while they wait, ended with a reason."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import MutableMapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from services.ingest.event_log import Cause
from services.ingest.metrics import IngestMetrics
from services.ingest.socket_connection import Connection, StreamLimits, Total
from shared.http import MAX_SOCKET_MESSAGE
from tests.integration.event_stream import GatedLog, Site, greeted, heard, opened, settled
from tests.waiting import eventually


def event(number: int, **more: object) -> str:
    return json.dumps({"event_type": "a", "event_id": f"e-{number}", "seq": number, **more})


async def until(condition: bool) -> bool:
    return condition


async def test_what_is_acknowledged_is_stored_once_in_the_order_in_which_it_was_sent() -> None:
    async with opened() as site, site.connecting() as client:
        assert (await greeted(client))["credit"] > 1
        for number in range(1, 501):
            await client.send(event(number, user_id="u-1"))
        said = await settled(client, 500)

        assert [one["seq"] for one in said] == [one["message"] for one in said]
        assert sum(one["accepted"] for one in said) == 500
        assert len(said) < 500
        assert [found.event_id for found in site.stored()] == [f"e-{n}" for n in range(1, 501)]
        assert {found.organisation for found in site.stored()} == {"acme"}


async def test_messages_beyond_a_keys_limit_wait_and_are_acknowledged_at_its_rate() -> None:
    async with opened() as site:
        site.limit(100, 1)
        async with site.connecting() as client:
            await greeted(client)
            began = asyncio.get_running_loop().time()
            await client.send(json.dumps({"seq": 1, "events": [{"event_type": "a"}] * 41}))
            assert (await heard(client))["accepted"] == 41
            await client.send(event(2))
            assert (await heard(client))["accepted"] == 1
            assert asyncio.get_running_loop().time() - began > 0.4
            assert site.metric("rate_limited_total", outcome="delayed") == 1
            assert len(site.stored()) == 42


async def test_who_would_wait_too_long_for_the_limit_is_sent_away_with_the_time_to_come_again() -> None:
    async with opened() as site:
        site.limit(1, 1)
        async with site.connecting() as client:
            await greeted(client)
            await client.send(json.dumps({"seq": 1, "events": [{"event_type": "a"}] * 100}))
            assert (await heard(client))["accepted"] == 100
            await client.send(event(2))
            with pytest.raises(ConnectionClosed) as closed:
                await heard(client)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason.partition(":")[0]) == (1013, "rate_limited")
        assert "connect again in 100 s" in closed.value.rcvd.reason
        assert len(site.stored()) == 100


async def test_an_invalid_event_is_named_in_the_acknowledgement_and_kept_as_a_dead_letter() -> None:
    async with opened() as site, site.connecting() as client:
        await greeted(client)
        good = {"event_type": "a", "event_id": "good"}
        bad = {"event_type": "websocket_error", "event_id": "bad", "event_data": {"pipeline": "csv_import"}}
        await client.send(json.dumps({"seq": 5, "events": [good, bad, good]}))
        said = await heard(client)

        assert (said["seq"], said["accepted"]) == (5, 2)
        (verdict,) = said["invalid"]
        assert (verdict["index"], verdict["event_id"], verdict["reason"]) == (1, "bad", "schema_violation")
        assert "errorCode" in verdict["detail"]
        (letter,) = site.dead()
        assert (letter.organisation, letter.reason, letter.origin) == ("acme", "schema_violation", "websocket")
        assert json.loads(letter.payload) == bad


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"nonsense", "malformed_json"),
        (b'{"seq":1,"events":[{"event_type":"a"},}', "malformed_json"),
        (b'{"seq":"x","event_type":"a"}', "seq_invalid"),
        (b'{"seq":1,"events":[]}', "batch_empty"),
        (b'{"seq":1,"events":[' + b"1," * 1_000 + b"1]}", "batch_too_long"),
    ],
)
async def test_a_message_that_cannot_be_read_is_refused_and_the_next_is_taken(raw: bytes, reason: str) -> None:
    async with opened() as site, site.connecting() as client:
        await greeted(client)
        await client.send(raw)
        await client.send(event(2))
        first, second = await settled(client, 2)

        assert (first["message"], first["accepted"], first["refused"]["reason"]) == (1, 0, reason)
        assert (second["seq"], second["accepted"]) == (2, 1)
        assert len(site.stored()) == 1
        assert site.dead() == []


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ('{"event_type":"a","event_data":{"x":"\\ud800"}}', "lone_surrogate"),
        ('{"event_type":"a","event_data":{"x":1e400}}', "non_finite_number"),
        ('{"event_type":"a","event_data":' + "[" * 100_000 + "]" * 100_000 + "}", "too_deep"),
        ('{"event_type":"a","event_data":{"x":"' + "y" * 300_000 + '"}}', "event_too_large"),
        ("[]", "schema_violation"),
        ('{"type":"unheard_of"}', "schema_violation"),
    ],
)
async def test_a_hostile_event_is_a_dead_letter_and_harms_nobody(raw: str, reason: str) -> None:
    async with opened() as site, site.connecting() as client:
        await greeted(client)
        await client.send(raw)
        (verdict,) = (await heard(client))["invalid"]
        assert verdict["reason"] == reason
        assert [letter.reason for letter in site.dead()] == [reason]
        await client.send(event(2))
        assert (await heard(client))["accepted"] == 1


async def test_context_comes_from_the_upgrade_request_and_the_events_own_wins() -> None:
    headers = {
        "X-App-Version": "3.1",
        "X-OS-Version": "26.1",
        "X-Network-Type": "cellular",
        "X-Device-Model": "iPhone",
    }
    async with opened() as site:
        async with site.connecting(headers=headers) as client:
            await greeted(client)
            await client.send(event(1, context={"networkType": "wifi"}))
            await settled(client, 1)
        (found,) = site.stored()
        context = {name: value for name, value in found.context.items() if name != "userAgent"}
        assert context == {"appVersion": "3.1", "osVersion": "26.1", "networkType": "wifi", "deviceModel": "iPhone"}


async def test_a_browser_brings_its_key_as_a_subprotocol_and_its_context_in_the_url() -> None:
    async with opened() as site:
        protocols = [Subprotocol("tidegate.v1"), Subprotocol(f"tidegate.key.{site.keys['ingest']}")]
        async with connect(f"{site.url}?networkType=wifi&appVersion=4", subprotocols=protocols) as client:
            assert client.subprotocol == "tidegate.v1"
            await greeted(client)
            await client.send(event(1))
            await settled(client, 1)
        assert site.stored()[0].context["appVersion"] == "4"


async def test_a_hello_brings_the_key_and_the_context_in_the_first_message() -> None:
    async with opened() as site, connect(site.url) as client:
        hello = {"type": "hello", "key": site.keys["ingest"], "context": {"osVersion": "26.0"}}
        await client.send(json.dumps(hello))
        await greeted(client)
        await client.send(event(1))
        await settled(client, 1)
        assert site.stored()[0].context["osVersion"] == "26.0"


async def closing(site: Site, *messages: str) -> tuple[int, str]:
    async with connect(site.url) as client:
        for message in messages:
            await client.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            await heard(client)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


async def test_who_brings_no_good_key_is_sent_away() -> None:
    async with opened(limits=StreamLimits(hello_seconds=0.1)) as site:
        assert (await closing(site))[1].startswith("key_missing")
        for message, reason in (
            (event(1), "key_missing"),
            ('{"type":"hello"}', "key_missing"),
            ('{"type":"hello","key":"tg_0_0"}', "key_unknown"),
            (json.dumps({"type": "hello", "key": site.keys["read"]}), "scope_insufficient"),
        ):
            code, said = await closing(site, message)
            assert (code, said.partition(":")[0]) == (1008, reason)
        assert site.stored() == []
        assert site.dead() == []
        assert site.metric("sockets_closed_total", code="1008") == 5


async def refused(connecting: connect) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as answer:
        async with connecting:
            pass
    response = answer.value.response
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, json.loads(response.body or b"")["reason"]


async def test_a_wrong_key_in_a_header_gets_an_answer_instead_of_a_connection() -> None:
    async with opened() as site:
        assert await refused(connect(site.url, additional_headers={"X-API-Key": "wrong"})) == (401, "key_unknown")
        assert await refused(site.connecting("read")) == (403, "scope_insufficient")
        assert await refused(connect(f"{site.url}?token={site.keys['ingest']}")) == (400, "key_in_url")
        assert await refused(connect(site.url.replace("/stream", "/streams"))) == (404, "not_found")


async def test_a_revoked_key_sends_nothing_more() -> None:
    async with opened() as site, site.connecting() as client:
        await greeted(client)
        await client.send(event(1))
        await settled(client, 1)
        site.revoke("ingest")
        await client.send(event(2))
        with pytest.raises(ConnectionClosed) as closed:
            await heard(client)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "key_unknown")
        assert len(site.stored()) == 1


async def test_nothing_is_acknowledged_before_it_is_stored_and_reading_stops_at_the_credit() -> None:
    log = GatedLog()
    log.gate.clear()
    async with opened(log, StreamLimits(credit=10)) as site, site.connecting() as client:
        assert (await greeted(client))["credit"] == 10
        for number in range(1, 101):
            await client.send(event(number))
        await eventually(lambda: until(site.metric("socket_messages_total") == 10), "ten messages are read")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.recv()
        assert site.metric("socket_messages_total") == 10
        assert log.waiting == 1
        log.gate.set()
        await settled(client, 100)
        assert len(site.stored()) == 100


async def test_reading_stops_at_so_many_bytes() -> None:
    log = GatedLog()
    log.gate.clear()
    async with opened(log, StreamLimits(window_bytes=100_000)) as site, site.connecting() as client:
        await greeted(client)
        sending = asyncio.create_task(_send_large(client, 40))
        await eventually(lambda: until(site.metric("socket_messages_total") == 2), "two messages are read")
        await asyncio.sleep(0.1)
        assert site.metric("socket_messages_total") == 2
        log.gate.set()
        await sending
        await settled(client, 40)
        assert len(site.stored()) == 40


async def _send_large(client: ClientConnection, count: int) -> None:
    for number in range(1, count + 1):
        await client.send(event(number, event_data={"x": "y" * 60_000}))


async def test_what_kafka_does_not_take_ends_the_connection_and_a_resend_stores_the_rest() -> None:
    async with opened() as site:
        async with site.connecting() as client:
            await greeted(client)
            await client.send(event(1))
            await settled(client, 1)
            site.events.refuses = Cause.DEADLINE
            await client.send(event(2))
            with pytest.raises(ConnectionClosed) as closed:
                await heard(client)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013
            assert closed.value.rcvd.reason.startswith("not_confirmed: ")
        assert (await refused(site.connecting()))[0] == 503
        site.events.refuses = None
        async with site.connecting() as client:
            await greeted(client)
            await client.send(event(2))
            await settled(client, 1)
        assert {found.event_id for found in site.stored()} == {"e-1", "e-2"}


async def test_too_much_from_all_connections_together_ends_the_one_that_makes_it_too_much() -> None:
    log = GatedLog()
    log.gate.clear()
    small = StreamLimits(total_bytes=100_000)
    async with opened(log, small) as site, site.connecting() as one, site.connecting() as other:
        await greeted(one)
        await greeted(other)
        await one.send(event(1, event_data={"x": "y" * 60_000}))
        await eventually(lambda: until(log.waiting == 1), "the first waits")
        await other.send(event(2, event_data={"x": "y" * 60_000}))
        await eventually(lambda: until(log.waiting == 2), "the second waits")
        log.gate.set()
        assert (await heard(one))["accepted"] == 1
        assert (await heard(other))["accepted"] == 1
        with pytest.raises(ConnectionClosed) as closed:
            await heard(other)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason[:11]) == (1013, "overloaded:")
        await one.send(event(3))
        await settled(one, 2)


async def test_a_message_that_is_too_large_ends_the_connection() -> None:
    async with opened() as site, site.connecting() as client:
        await greeted(client)
        await client.send(" " * (MAX_SOCKET_MESSAGE + 1))
        with pytest.raises(ConnectionClosed) as closed:
            await heard(client)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


async def test_on_shutdown_everything_that_was_read_is_acknowledged_before_the_farewell() -> None:
    log = GatedLog()
    log.gate.clear()
    async with opened(log) as site, site.connecting() as client, connect(site.url) as silent:
        await greeted(client)
        for number in range(1, 21):
            await client.send(event(number))
        await eventually(lambda: until(site.metric("socket_messages_total") == 20), "all messages are read")
        site.server.stop()
        with pytest.raises(ConnectionClosed) as early:
            await heard(silent)
        assert early.value.rcvd is not None
        assert early.value.rcvd.code == 1001
        log.gate.set()
        said = await settled(client, 20)
        assert sum(one["accepted"] for one in said) == 20
        with pytest.raises(ConnectionClosed) as closed:
            await heard(client)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "shutdown: connect again")


async def test_a_client_that_goes_on_sending_hears_the_farewell_too() -> None:
    log = GatedLog()
    log.gate.clear()
    async with opened(log, StreamLimits(credit=2)) as site, site.connecting() as client:
        await greeted(client)
        sending = asyncio.create_task(_send_large(client, 1_000))
        await eventually(lambda: until(site.metric("socket_messages_total") == 2), "two messages are read")
        site.server.stop()
        log.gate.set()
        with pytest.raises(ConnectionClosed) as closed:
            await settled(client, 1_000)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        await asyncio.wait([sending])
        assert isinstance(sending.exception(), ConnectionClosed)


async def test_a_client_that_leaves_without_waiting_has_its_events_stored_nevertheless() -> None:
    log = GatedLog()
    log.gate.clear()
    async with opened(log) as site:
        async with site.connecting() as client:
            await greeted(client)
            for number in range(1, 31):
                await client.send(event(number))
        log.gate.set()
        await eventually(lambda: until(len(site.stored()) == 30), "all is stored")
        await eventually(lambda: until(site.metric("sockets") == 0), "the connection is forgotten")


async def test_what_was_read_is_stored_though_the_server_has_ended_the_connection_by_itself() -> None:
    site = Site(log := GatedLog())
    log.gate.clear()
    sent: list[str] = []
    coming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def send(message: MutableMapping[str, Any]) -> None:
        if sent:
            raise RuntimeError("Unexpected ASGI message 'websocket.send', after sending 'websocket.close'.")
        sent.append(message["type"])

    metrics = IngestMetrics(CollectorRegistry()).sockets
    connection = Connection(coming.get, send, site.intake, site.admit, metrics, StreamLimits(), Total())
    serving = asyncio.create_task(connection.serve(site.keys["ingest"], {}))
    coming.put_nowait({"type": "websocket.receive", "text": event(1, user_id="u")})
    await eventually(lambda: until(log.waiting == 1), "the first event is under way")
    coming.put_nowait({"type": "websocket.receive", "text": event(2, user_id="u")})
    coming.put_nowait({"type": "websocket.disconnect"})
    log.gate.set()
    await serving

    assert [found.event_id for found in site.stored()] == ["e-1", "e-2"]


async def test_a_ping_is_answered_with_its_nonce_while_events_wait() -> None:
    log = GatedLog()
    log.gate.clear()
    async with opened(log) as site, site.connecting() as client:
        await greeted(client)
        await client.send(event(1))
        await client.send('{"type":"ping","nonce":"n-1"}')
        assert await heard(client) == {"type": "pong", "nonce": "n-1"}
        await (await client.ping())
        log.gate.set()
        assert (await heard(client))["accepted"] == 1


async def test_whatever_comes_every_message_is_settled_and_every_good_event_is_stored() -> None:
    draw = random.Random(7)
    good = b'{"seq":1,"events":[{"event_type":"a","event_id":"x","event_data":{"n":1.5}}]}'

    def spoiled() -> bytes:
        raw = bytearray(good)
        for _ in range(draw.randint(1, 3)):
            raw[draw.randrange(len(raw))] = draw.choice(b'{}[]",:\\\x00\xff 0e9ut')
        return bytes(raw[: draw.randint(1, len(raw))] if draw.random() < 0.2 else raw)

    async with opened() as site, site.connecting() as client:
        await greeted(client)
        sent = [spoiled() if draw.random() < 0.8 else good for _ in range(1_000)]
        for raw in sent:
            await client.send(raw)
        said = await settled(client, len(sent))
        assert sum(one["accepted"] for one in said) == len(site.stored()) >= sent.count(good)
        assert sum(len(one.get("invalid", ())) for one in said) == len(site.dead())
        await client.send(event(1))
        assert (await heard(client))["accepted"] == 1


async def test_other_connections_go_on_while_a_message_of_brackets_is_read() -> None:
    async with opened() as site, site.connecting() as hostile, site.connecting() as client:
        await greeted(hostile)
        await greeted(client)
        refused = asyncio.create_task(heard(hostile))
        await hostile.send(b'{"events":[' + b"[]" * 400_000)
        answered = 0
        while not refused.done():
            await client.send(json.dumps({"type": "ping", "nonce": answered}))
            assert (await heard(client))["nonce"] == answered
            answered += 1

        assert (await refused)["message"] == 1
        assert answered >= 30


async def test_a_second_hello_is_out_of_place() -> None:
    async with opened() as site, site.connecting() as client:
        await greeted(client)
        await client.send('{"type":"hello","context":{"appVersion":"1"}}')
        await client.send(event(1))
        await settled(client, 1)
        assert site.stored()[0].context["appVersion"] == "1"
        await client.send('{"type":"hello"}')
        with pytest.raises(ConnectionClosed) as closed:
            await heard(client)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "hello_not_first")

"""Webhooks as sources: let in by their signature, stored before they are answered, once each however often sent."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections import Counter
from typing import Any

import httpx

from tests.integration.sources.world import SOURCES, Ingest, Stored
from tests.waiting import eventually

SECRET = "shared-s3cret"
GITHUB = {"scheme": "github", "secret": SECRET, "include_headers": ["X-GitHub-Event"]}
MAPPING = {"event_type": 'headers."x-github-event"', "event_data": {"n": "body.n"}}


async def send(
    service: Ingest, key: str, body: bytes, *, secret: str = SECRET, organisation: str = "acme", **headers: str
) -> httpx.Response:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    sent = {"X-Hub-Signature-256": f"sha256={signature}", "X-GitHub-Event": "push", **headers}
    path = f"/api/v1/streaming-analytics/webhooks/{key}"
    async with httpx.AsyncClient(base_url=service.url) as nobody:
        return await nobody.post(path, params={"organisation": organisation}, content=body, headers=sent)


async def created(service: Ingest, key: str, config: dict[str, Any], **more: Any) -> int:
    source = await service.create("webhook", config, key=key, **more)
    number: int = source["id"]

    async def known() -> bool:
        return (await send(service, key, b"{}", secret="wrong")).status_code == 401

    await eventually(known, "the webhook is known")
    return number


async def test_a_delivery_that_is_repeated_counts_once(service: Ingest, log: Stored) -> None:
    source = await created(service, "pushes", GITHUB, mapping=MAPPING)
    for n in (1, 2, 2, 3):
        answer = await send(service, "pushes", b'{"n":%d}' % n, **{"X-GitHub-Delivery": f"delivery-{n}"})
        assert (answer.status_code, answer.json()["status"]) == (202, "accepted")

    await log.holds(source, Counter([1, 2, 3]))
    assert {event.event_type for event in await log.events(source)} == {"push"}

    async def told() -> bool:
        health = await service.health(source)
        return bool((health["state"], health["events"]) == ("running", 4))

    await eventually(told, "the health tells of four deliveries")
    assert SECRET not in (await service.read.get(f"{SOURCES}/{source}")).text


async def test_what_is_signed_but_no_event_is_kept_as_a_dead_letter(service: Ingest, log: Stored) -> None:
    await created(service, "noisy-hook", {**GITHUB, "include_headers": []}, mapping={"event_type": "kind"})
    for body in (b"", b"no json", b'{"kind":5}', b"\xff\x00"):
        answer = await send(service, "noisy-hook", body)
        assert (answer.status_code, answer.json()["status"]) == (202, "invalid"), answer.text

    assert [letter.payload for letter in await log.letters("source:noisy-hook")] == [
        b"",
        b"no json",
        b'{"kind":5}',
        b"\xff\x00",
    ]


async def test_without_the_right_signature_organisation_or_key_nothing_is_taken(service: Ingest, log: Stored) -> None:
    source = await created(service, "strict-hook", GITHUB, mapping=MAPPING)
    answers = [
        await send(service, "strict-hook", b'{"n":1}', secret="wrong"),
        await send(service, "strict-hook", b'{"n":1}', **{"X-Hub-Signature-256": ""}),
        await send(service, "strict-hook", b'{"n":1}', organisation="default"),
        await send(service, "nobody", b'{"n":1}'),
    ]
    paused = await service.admin.post(f"{SOURCES}/{source}/pause")
    assert paused.json()["health"]["state"] == "paused"

    assert [(answer.status_code, answer.json()["reason"]) for answer in answers] == [
        (401, "signature_invalid"),
        (401, "signature_missing"),
        (404, "webhook_unknown"),
        (404, "webhook_unknown"),
    ]

    async def refused() -> bool:
        answer = await send(service, "strict-hook", b'{"n":1}')
        return answer.status_code == 503 and answer.json()["reason"] == "source_paused"

    await eventually(refused, "a paused webhook asks to be called later")
    assert [event for event in await log.events(source) if event.properties.get("n") != 1] == []


async def test_slack_hears_its_challenge_back(service: Ingest) -> None:
    await service.create(
        "webhook", {"scheme": "slack", "secret": SECRET}, key="slack", mapping={"event_type": "type"}
    )
    body = json.dumps({"type": "url_verification", "challenge": "3eZbrw1aB"}).encode()
    now = str(int(time.time()))
    signature = hmac.new(SECRET.encode(), f"v0:{now}:".encode() + body, hashlib.sha256).hexdigest()
    headers = {"X-Slack-Signature": f"v0={signature}", "X-Slack-Request-Timestamp": now}

    async def answered() -> bool:
        answer = await send(service, "slack", body, **headers)
        return answer.status_code == 200 and answer.json() == {"challenge": "3eZbrw1aB"}

    await eventually(answered, "the challenge comes back", seconds=10)

"""Each process in turn dies by kill -9 while its breaker opens: no alert is missed, none is doubled, all is exact."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from deploy.local.stack import LocalStack
from examples.imports.domain.inbox import Channel
from examples.imports.receivers import Receivers, open_receivers
from shared.clock import system_clock, to_iso
from tests.e2e.valve import THRESHOLD, Valve
from tests.traffic import Ledger, send_batches
from tests.waiting import eventually

VICTIMS = ("alerting", "aggregator-worker", "assignment", "ingest", "aggregator-api", "gateway", "postgres", "kafka")
_CHANNELS: tuple[Channel, ...] = ("slack", "pagerduty", "email")
_BATCH = 100
_NOISE = "valve_noise"
_SLOW = "valve_slow"


@pytest_asyncio.fixture(scope="module")
async def receivers() -> AsyncIterator[Receivers]:
    async with open_receivers() as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def valve(stack: LocalStack, receivers: Receivers) -> AsyncIterator[Valve]:
    made = Valve(stack, "valve")
    await made.define(_specs(receivers))
    await eventually(made.is_on, "the flag is there and on")
    yield made
    await made.close()


async def test_a_rule_on_a_percentile_fires_and_resolves(valve: Valve) -> None:
    """The mean of a few slow imports among quick ones is far below the threshold: only the histogram tells."""
    spec = {"type": "value", "event": _SLOW, "value": "properties.ms", "aggregations": ["p95"]}
    await valve.put("metrics", _SLOW, spec)
    rule = {"metric": _SLOW, "aggregation": "p95", "direction": "above", "critical": 900, "minimum_sample": 20}
    await valve.put("rules", _SLOW, {**rule, "window": "1h", "notify": []})

    async def shows(status: str, slow: int) -> bool:
        """Tells of twenty more imports each time: a definition counts from the next batch on."""
        await valve.tell(_SLOW, *[{"ms": 1_000}] * slow, *[{"ms": 10}] * (20 - slow))
        return [a["status"] for a in await valve.alerts() if a["alert_data"].get("rule") == _SLOW] == [status]

    await eventually(partial(shows, "open", 2), "the rule fires", every=0.2)
    await eventually(partial(shows, "resolved", 0), "the alert ends once slow ones are rare", every=0.2)
    (alert,) = [a for a in await valve.alerts() if a["alert_data"].get("rule") == _SLOW]
    assert alert["alert_data"]["aggregation"] == "p95"
    assert alert["alert_data"]["value"] == pytest.approx(10, rel=0.01)


async def test_a_breaker_opens_once_and_closes_whatever_process_is_killed_meanwhile(
    stack: LocalStack, valve: Valve, receivers: Receivers
) -> None:
    await valve.put("metrics", _NOISE, {"type": "count", "event": _NOISE})
    ledger = Ledger()
    with _noise(stack, ledger):
        for victim in VICTIMS:
            before = _pid(stack, victim)
            failing = asyncio.create_task(valve.happen(*["failed"] * THRESHOLD))
            os.kill(before, signal.SIGKILL)
            await failing
            await eventually(valve.is_off, f"the flag goes off although {victim} was killed", seconds=60)
            await eventually(partial(valve.is_in, "half_open"), f"a probe is admitted after {victim}", seconds=60)
            await valve.happen("succeeded")
            await eventually(valve.is_on, f"the flag goes on again after {victim}", seconds=60)
            assert (await valve.breaker())["state"] == "closed"
            await eventually(partial(_is_another, stack, victim, before), f"{victim} is started again", seconds=60)
    found = await valve.breaker()
    assert (found["openings"], found["closings"]) == (len(VICTIMS), len(VICTIMS))
    await eventually(lambda: _counted(valve), "every event of the breaker counts")
    await eventually(lambda: _noise_counted(valve, ledger), "every acknowledged event counts", seconds=90)
    await eventually(lambda: _all_ready(stack), "the stack is whole again", seconds=60)
    await eventually(lambda: _told(receivers), "every channel has every opening and closing", seconds=60)
    alerts = [a for a in await valve.alerts() if a["alert_type"] == "circuit_breaker"]
    assert Counter(a["status"] for a in alerts) == {"resolved": len(VICTIMS)}


@contextmanager
def _noise(stack: LocalStack, ledger: Ledger) -> Iterator[None]:
    """Other events, all the time."""

    async def send() -> None:
        number = 0
        while True:
            now = to_iso(system_clock())
            batches = [
                [
                    {
                        "event_id": f"noise-{number + b * _BATCH + i}",
                        "event_type": _NOISE,
                        "event_data": {"n": i},
                        "event_timestamp": now,
                        "user_id": f"noise-user-{i}",
                    }
                    for i in range(_BATCH)
                ]
                for b in range(10)
            ]
            number += 10 * _BATCH
            await send_batches(stack.gateway, stack.keys["ingest"], batches, ledger, clients=2, resend=0.05)
            await asyncio.sleep(0.2)

    sending = asyncio.create_task(send())
    try:
        yield
        assert not sending.done(), sending.exception()
    finally:
        sending.cancel()


async def _counted(valve: Valve) -> bool:
    counted = await valve.count()
    assert counted <= valve.sent[valve.name], "an event was counted twice"
    return counted == valve.sent[valve.name]


async def _noise_counted(valve: Valve, ledger: Ledger) -> bool:
    """What was on its way when the noise stopped may have arrived unacknowledged: one round of batches at most."""
    found = await valve.ask("GET", f"/api/v1/streaming-analytics/metrics/{_NOISE}")
    extra: int = found["totals"]["counted"] - len(ledger.acknowledged)
    assert extra <= 10 * _BATCH, "events were counted twice"
    return extra >= 0


async def _told(receivers: Receivers) -> bool:
    """One trigger and one resolve for each opening. A repeat bears the identity of the first; Slack has none."""
    told = True
    for channel in _CHANNELS:
        seen = [(m.action, m.id) for m in receivers.of(channel)]
        by_action = Counter(action for action, _ in (seen if channel == "slack" else set(seen)))
        if channel != "slack":
            assert max(by_action.values(), default=0) <= len(VICTIMS), f"{channel} was told more than there was"
        told = told and by_action["trigger"] >= len(VICTIMS) and by_action["resolve"] >= len(VICTIMS)
    return told


def _specs(receivers: Receivers) -> dict[str, dict[str, Any]]:
    """The channels of the breaker, by key."""
    return {
        "slack": {"type": "slack", "url": receivers.slack_url},
        "pager": {
            "type": "pagerduty",
            "url": receivers.pagerduty_url,
            "routing_key": receivers.routing_key,
        },
        "mail": {
            "type": "email",
            "host": receivers.host,
            "port": receivers.smtp_port,
            "tls": "none",
            "from": "tidegate@example.com",
            "to": ["oncall@example.com"],
        },
    }


async def _is_another(stack: LocalStack, name: str, before: int) -> bool:
    return next(p for p in stack.state.read().processes if p.name == name).pid not in (None, before)


async def _all_ready(stack: LocalStack) -> bool:
    return all(p.state == "ready" for p in stack.state.read().processes)


def _pid(stack: LocalStack, name: str) -> int:
    pid = next(p.pid for p in stack.state.read().processes if p.name == name)
    assert pid is not None
    return pid

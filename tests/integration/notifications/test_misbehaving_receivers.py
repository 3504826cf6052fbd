"""Receivers that answer 429 or 500, hang, close or are not there get the message afterwards, once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from examples.imports.domain.inbox import Channel
from examples.imports.receivers import Fault, Receivers
from services.alerting.channels.outbox import ChannelName, Outbox
from shared.definitions import Outcome
from tests.integration.notifications.world import CHANNELS, PATIENT, QUICK, World
from tests.waiting import eventually

FAULTS = {
    "429 with seconds": Fault("answer", 429, "slow down", retry_after="0"),
    "429 with a date": Fault("answer", 429, "slow down", retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
    "500": Fault("answer", 500, "oops"),
    "a hang": Fault("hang"),
    "a closed connection": Fault("close"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("channel", ["slack", "pagerduty"])
async def test_a_misbehaving_http_receiver_gets_the_message_afterwards_once(
    world: World, receivers: Receivers, channel: Channel, fault: Fault
) -> None:
    await world.define(channel)
    receivers.misbehave(channel, fault, fault)
    async with world.delivery(QUICK) as delivery:
        await world.enqueue(world.note())
        delivery.wake()
        (state,) = await world.until_finished(count=1)
    assert (state.state, state.attempts) == ("delivered", 3)
    assert receivers.attempts[channel] == 3
    assert len(receivers.messages) == 1


@pytest.mark.parametrize(
    "fault", [Fault("answer", 451, "4.3.0 try later"), Fault("hang"), Fault("close")], ids=["451", "hang", "close"]
)
async def test_a_misbehaving_mail_server_gets_the_message_afterwards_once(
    world: World, receivers: Receivers, fault: Fault
) -> None:
    await world.define("email")
    receivers.misbehave("email", fault, fault)
    async with world.delivery(QUICK) as delivery:
        await world.enqueue(world.note())
        delivery.wake()
        (state,) = await world.until_finished(count=1)
    assert (state.state, state.attempts) == ("delivered", 3)
    assert len(receivers.messages) == 1


@pytest.mark.parametrize("channel", ["pagerduty", "email"])
@pytest.mark.parametrize("kind", ["hang", "close"])
async def test_a_repeat_after_a_lost_answer_has_the_same_name(
    world: World, receivers: Receivers, channel: Channel, kind: Any
) -> None:
    await world.define(channel)
    receivers.misbehave(channel, Fault(kind, accepts=True))
    async with world.delivery(QUICK) as delivery:
        await world.enqueue(world.note())
        delivery.wake()
        await world.until_finished(count=1)
    first, second = receivers.messages
    assert first.id == second.id != ""
    assert first.body == second.body


@pytest.mark.parametrize(
    ("channel", "fault"),
    [
        ("slack", Fault("answer", 404, "no_service")),
        ("pagerduty", Fault("answer", 400, "invalid event")),
        ("slack", Fault("answer", 302, "moved", location="/messages")),
        ("pagerduty", Fault("answer", 307, "moved", location="/messages")),
        ("email", Fault("answer", 550, "5.7.1 not you")),
    ],
)
async def test_a_refusal_is_recorded_shown_and_not_repeated(
    world: World, receivers: Receivers, channel: Channel, fault: Fault
) -> None:
    await world.define(channel)
    receivers.misbehave(channel, fault)
    async with world.delivery() as delivery:
        await world.enqueue(world.note(1), world.note(2))
        delivery.wake()
        (first,) = await world.until_finished(1, count=1)
        (second,) = await world.until_finished(2, count=1)
    assert (first.state, first.attempts) == ("failed", 1)
    assert str(fault.status) in first.detail
    assert fault.text in first.detail
    assert second.state == "delivered"
    assert receivers.attempts[channel] == 2


@pytest.mark.parametrize("channel", CHANNELS)
async def test_what_waits_for_an_unreachable_receiver_goes_when_the_channel_is_mended(
    world: World, receivers: Receivers, channel: Channel
) -> None:
    broken = world.spec(channel)
    if channel == "email":
        broken["port"] = 1
    else:
        broken["url"] = "http://127.0.0.1:1/secret-path"
    await world.store.put(world.organisation, channel, broken)
    patient = replace(PATIENT, first_delay=600, longest_delay=600)
    async with world.delivery(patient) as delivery:
        await world.enqueue(world.note())
        delivery.wake()

        async def tried() -> bool:
            return (await world.states())[0].detail != ""

        await eventually(tried, "the first attempt has failed")
        (state,) = await world.states()
        assert state.state == "pending"
        assert "no answer" in state.detail
        assert "secret-path" not in state.detail
        assert await world.store.put(world.organisation, channel, world.spec(channel)) == (Outcome.CHANGED, 2)
        delivery.wake()
        (state,) = await world.until_finished(count=1)
    assert (state.state, state.attempts) == ("delivered", 2)
    assert len(receivers.messages) == 1


async def test_a_dead_channel_does_not_delay_the_others(world: World, receivers: Receivers) -> None:
    await world.define(*CHANNELS)
    receivers.misbehave("slack", Fault("hang"))
    async with world.delivery(PATIENT) as delivery:
        await world.enqueue(*[world.note(n) for n in range(1, 6)])
        delivery.wake()
        await receivers.until(lambda: len(receivers.of("pagerduty")) == len(receivers.of("email")) == 5)
        assert receivers.of("slack") == []


async def test_retry_after_rests_the_whole_channel(world: World, receivers: Receivers) -> None:
    await world.define("slack")
    receivers.misbehave("slack", Fault("answer", 429, retry_after="1800"))
    async with world.delivery() as delivery:
        await world.enqueue(world.note(1), world.note(2))
        delivery.wake()

        async def rests() -> bool:
            return (await world.store.all(world.organisation))[0].failures == 1

        await eventually(rests, "the channel rests")
        waiting = await Outbox(world.pool, owner="x", lease=1).waiting()
    assert waiting.messages == 2
    assert 1750 < waiting.channels[ChannelName(world.organisation, "slack")] <= 1800
    assert receivers.attempts["slack"] == 1


async def test_after_a_day_a_message_is_given_up_but_was_tried(world: World, receivers: Receivers) -> None:
    await world.define("slack")
    receivers.misbehave("slack", *[Fault("answer", 503)] * 2)
    await world.enqueue(world.note(1))
    await world.pool.execute("UPDATE alerting.notifications SET created_at = now() - interval '25 hours'")
    async with world.delivery() as delivery:
        delivery.wake()
        (state,) = await world.until_finished(1, count=1)
        await world.enqueue(world.note(2))
        delivery.wake()
        (fresh,) = await world.until_finished(2, count=1)
    assert (state.state, state.attempts) == ("expired", 1)
    assert (fresh.state, fresh.attempts) == ("delivered", 2)

"""Notifications from the outbox in Postgres, each once, in order, whoever dies."""

from __future__ import annotations

import asyncio
import itertools
import sys
from dataclasses import replace

from examples.imports.receivers import Fault, Receivers
from services.alerting.channels import attempt
from services.alerting.channels.outbox import ChannelName, Outbox
from services.alerting.channels.retry import Patience
from services.alerting.notifications import enqueue
from shared.postgres import create_pool
from tests.integration.assignment_service import cable
from tests.integration.notifications.world import CHANNELS, PATIENT, World


async def test_a_notification_reaches_every_channel_once(world: World, receivers: Receivers) -> None:
    await world.define(*CHANNELS)
    async with world.delivery() as delivery:
        await world.enqueue(world.note())
        delivery.wake()
        states = await world.until_finished(count=3)

    assert {(s.channel, s.state, s.attempts) for s in states} == {(c, "delivered", 1) for c in CHANNELS}
    assert sorted(m.channel for m in receivers.messages) == sorted(CHANNELS)
    for message in receivers.messages:
        assert (message.action, message.severity, message.title) == ("trigger", "critical", "Imports fail (1)")
    assert receivers.of("pagerduty")[0].id == f"{world.organisation}/rule:1/1"
    assert receivers.envelopes[0][:2] == ("alerts@tidegate.example", ("product@atlas.com", "engineering@atlas.com"))
    assert receivers.refusals == []


async def test_what_is_rolled_back_is_never_sent(world: World, receivers: Receivers) -> None:
    await world.define("slack")
    async with world.delivery() as delivery:
        async with world.pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await enqueue(connection, [world.note(1)])
            await transaction.rollback()
        await world.enqueue(world.note(2))
        delivery.wake()
        await world.until_finished(2, count=1)
    assert [m.title for m in receivers.messages] == ["Imports fail (2)"]


async def test_only_the_named_channels_are_told_and_an_unknown_one_shows_as_failed(world: World) -> None:
    await world.define(*CHANNELS)
    async with world.delivery() as delivery:
        await world.enqueue(world.note(notify=("slack", "nowhere", "slack")))
        delivery.wake()
        states = await world.until_finished(count=2)
    assert {(s.channel, s.state) for s in states} == {("slack", "delivered"), ("nowhere", "failed")}
    assert [s.detail for s in states if s.channel == "nowhere"] == ["there is no channel of this name"]


async def test_a_resolve_never_overtakes_its_trigger(world: World, receivers: Receivers) -> None:
    await world.define("pagerduty")
    receivers.misbehave("pagerduty", *[Fault("answer", 500)] * 4)
    async with world.delivery() as delivery:
        await world.enqueue(world.note())
        await world.enqueue(world.note(action="acknowledge"))
        await world.enqueue(world.note(action="resolve"))
        delivery.wake()
        states = await world.until_finished(count=3)
    assert [m.action for m in receivers.messages] == ["trigger", "acknowledge", "resolve"]
    assert {m.id for m in receivers.messages} == {world.note().dedup_key}
    assert [s.state for s in states] == ["delivered"] * 3


async def test_while_a_trigger_waits_nothing_of_its_alert_goes_but_what_is_of_others_does(world: World) -> None:
    await world.define("slack")
    await world.enqueue(world.note(1), world.note(1, action="resolve"))
    outbox, name = Outbox(world.pool, owner="me", lease=60), ChannelName(world.organisation, "slack")
    claim = await outbox.claim(name)
    assert claim is not None
    assert claim.notification.action == "trigger"
    assert await Outbox(world.pool, owner="somebody else", lease=60).claim(name) is None
    await outbox.postpone(claim, attempt.Attempt(attempt.Outcome.RETRYABLE, ""), delay=60, pause=0)
    assert await outbox.claim(name) is None
    await world.enqueue(world.note(2))
    other = await outbox.claim(name)
    assert other is not None
    assert (other.notification.alert_key, other.notification.action) == ("rule:2", "trigger")


async def test_a_message_that_keeps_failing_does_not_hold_up_other_alerts(world: World, receivers: Receivers) -> None:
    await world.define("pagerduty")
    receivers.misbehave("pagerduty", Fault("answer", 500))
    async with world.delivery(replace(PATIENT, first_delay=0.3, longest_delay=0.3, jitter=0)) as delivery:
        await world.enqueue(world.note(1), world.note(2), world.note(3))
        delivery.wake()
        for n in (1, 2, 3):
            await world.until_finished(n, count=1)
    assert sorted(m.title for m in receivers.messages) == [f"Imports fail ({n})" for n in (1, 2, 3)]


async def test_a_newer_trigger_takes_the_place_of_one_that_never_arrived(world: World, receivers: Receivers) -> None:
    await world.define("slack")
    await world.enqueue(world.note(severity="warning", title="old"))
    await world.enqueue(world.note(severity="error", title="older than the newest"))
    await world.enqueue(world.note(severity="critical", title="new"))
    await world.enqueue(world.note(action="resolve", title="new"))
    await world.enqueue(world.note(dedup_key="next", title="the next incident"))
    async with world.delivery() as delivery:
        delivery.wake()
        states = await world.until_finished(count=5)
    assert [s.state for s in states] == ["superseded", "superseded", "delivered", "delivered", "delivered"]
    assert [(m.action, m.title) for m in receivers.messages] == [
        ("trigger", "new"),
        ("resolve", "new"),
        ("trigger", "the next incident"),
    ]


async def test_slack_gets_at_most_one_message_a_second(world: World, receivers: Receivers) -> None:
    await world.define("slack")
    async with world.delivery(replace(PATIENT, pace={"slack": 0.2})) as delivery:
        await world.enqueue(*[world.note(n) for n in range(1, 5)])
        delivery.wake()
        await receivers.until(lambda: len(receivers.messages) == 4)
    times = [m.at for m in receivers.messages]
    assert all(later - earlier >= 190_000 for earlier, later in itertools.pairwise(times))
    assert Patience().pace["slack"] == 1.0


async def test_a_process_killed_while_sending_repeats_that_attempt_and_no_other(
    world: World, receivers: Receivers, postgres: str
) -> None:
    """The receivers take the message, and the process dies before it can note so."""
    await world.define("pagerduty", "email")
    await world.enqueue(world.note(1))
    receivers.misbehave("pagerduty", Fault("hang", accepts=True))
    receivers.misbehave("email", Fault("hang", accepts=True))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.notifications.delivering", postgres, "3"
    )
    try:
        await receivers.until(lambda: len(receivers.messages) == 2, seconds=60)
    finally:
        child.kill()
        await child.wait()
    await world.enqueue(world.note(1, action="resolve"))
    async with world.delivery():
        states = await world.until_finished(1, count=4)

    assert {(s.channel, s.action, s.attempts) for s in states} == {
        ("pagerduty", "trigger", 2),
        ("email", "trigger", 2),
        ("pagerduty", "resolve", 1),
        ("email", "resolve", 1),
    }
    for channel in ("pagerduty", "email"):
        first, repeat, resolve = [m for m in receivers.messages if m.channel == channel]
        assert [m.action for m in (first, repeat, resolve)] == ["trigger", "trigger", "resolve"]
        assert first.id == repeat.id
        assert first.thread == resolve.thread


async def test_two_processes_never_send_the_same_message(world: World, receivers: Receivers) -> None:
    await world.define(*CHANNELS)
    async with world.delivery() as one, world.delivery() as other, world.delivery():
        for n in range(1, 31):
            await world.enqueue(world.note(n), world.note(n, action="resolve"))
            one.wake()
            other.wake()
        await receivers.until(lambda: len(receivers.messages) >= 180)
        for n in range(1, 31):
            await world.until_finished(n, count=6)
    assert {channel: receivers.attempts[channel] for channel in CHANNELS} == dict.fromkeys(CHANNELS, 60)
    for channel in CHANNELS:
        for n in range(1, 31):
            actions = [m.action for m in receivers.of(channel) if f"({n})" in m.title or m.id.endswith(f"rule:{n}/1")]
            assert actions == ["trigger", "resolve"]


async def test_a_message_sent_while_postgres_goes_away_is_not_sent_again(
    world: World, receivers: Receivers, postgres: str
) -> None:
    await world.define("slack")
    receivers.misbehave("slack", Fault("hold"))
    async with cable(postgres) as line:
        pool = await create_pool(line.url, name="cut", schema="alerting")
        try:
            async with World(pool, receivers).delivery(PATIENT) as delivery:
                await world.enqueue(world.note(1), world.note(2))
                delivery.wake()
                await receivers.until(lambda: receivers.attempts["slack"] == 1)
                await line.pull()
                receivers.release()
                await receivers.until(lambda: len(receivers.messages) == 1)
                await line.plug()
                await world.until_finished(1, count=1)
                await world.until_finished(2, count=1)
        finally:
            pool.terminate()
    assert [m.title for m in receivers.messages] == ["Imports fail (1)", "Imports fail (2)"]


async def test_a_message_under_way_at_the_end_of_the_service_is_settled(world: World, receivers: Receivers) -> None:
    await world.define("pagerduty")
    receivers.misbehave("pagerduty", Fault("hold"))
    async with world.delivery(PATIENT) as delivery:
        await world.enqueue(world.note(1), world.note(2))
        delivery.wake()
        await receivers.until(lambda: receivers.attempts["pagerduty"] == 1)
        asyncio.get_running_loop().call_later(0.05, receivers.release)
    (state,) = await world.states(1)
    assert (state.state, state.attempts) == ("delivered", 1)


async def test_a_removed_channel_gets_nothing_more(world: World, receivers: Receivers) -> None:
    await world.define("slack")
    await world.enqueue(world.note())
    assert await world.store.remove(world.organisation, "slack")
    assert not await world.store.remove(world.organisation, "slack")
    async with world.delivery() as delivery:
        delivery.wake()
        (state,) = await world.until_finished(count=1)
    assert (state.state, state.detail) == ("failed", "the channel was removed")
    assert receivers.attempts["slack"] == 0

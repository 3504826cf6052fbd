"""Channels over REST: /api/v1/admin/channels."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response

from services.alerting.channel_store import ChannelStore, StoredChannel
from services.alerting.channels.attempt import Outcome
from services.alerting.channels.sender import Sender
from services.alerting.channels.spec import PagerDutyChannel
from services.alerting.domain.notification import Action, Notification
from services.alerting.examples import ChannelSpec
from shared import definitions
from shared.clock import Clock
from shared.definition_routes import answer_put
from shared.http import Problem, StrictRoute, principal_of
from shared.keys import Principal

_Who = Annotated[Principal, Depends(principal_of)]
_Key = Annotated[str, Path(max_length=128, description="The channel's key")]


def channel_routes(store: ChannelStore, sender: Sender, clock: Clock, wake: Callable[[], None]) -> APIRouter:
    """`wake` is called after a change: what waited for the channel may go now."""
    routes = APIRouter(route_class=StrictRoute, prefix="/api/v1/admin/channels", tags=["channels"])

    @routes.put("/{key}", summary="Apply channel")
    async def put_channel(key: _Key, spec: ChannelSpec, who: _Who, response: Response) -> dict[str, Any]:
        """Makes the channel what the spec says. A secret given as `***` stays as it is."""
        answer = await answer_put(response, key, store.put(who.organisation, key, spec))
        if answer["status"] != definitions.Outcome.UNCHANGED.value:
            wake()
        return answer

    @routes.get("", summary="List channels")
    async def list_channels(who: _Who) -> list[dict[str, Any]]:
        """Without their secrets; `pending` messages wait, `failures` attempts in a row have failed."""
        return [stored.as_json() for stored in await store.all(who.organisation)]

    @routes.get("/{key}", summary="Show channel")
    async def get_channel(key: _Key, who: _Who) -> dict[str, Any]:
        """Without its secrets."""
        return (await known(who, key)).as_json()

    @routes.delete("/{key}", summary="Remove channel")
    async def delete_channel(key: _Key, who: _Who) -> dict[str, Any]:
        """What waits for it is not sent any more."""
        if not await store.remove(who.organisation, key):
            raise _unknown(key)
        return {"key": key, "status": "removed"}

    @routes.post("/{key}/test", summary="Send a test message")
    async def test_channel(key: _Key, who: _Who) -> dict[str, Any]:
        """Sends one message now, once, and answers what the receiver said."""
        channel = (await known(who, key)).channel
        token = secrets.token_hex(16)
        attempt = await sender.send(channel, _test_message(who, key, token, clock(), "trigger"), token)
        if isinstance(channel, PagerDutyChannel) and attempt.outcome is not Outcome.PERMANENT:
            # Or a test would leave an open incident.
            await sender.send(channel, _test_message(who, key, token, clock(), "resolve"), token)
        return {
            "key": key,
            "outcome": attempt.outcome.value,
            "detail": attempt.detail,
            "retry_after": attempt.retry_after,
        }

    async def known(who: Principal, key: str) -> StoredChannel:
        found = await store.get(who.organisation, key)
        if found is None:
            raise _unknown(key)
        return found

    return routes


def _unknown(key: str) -> Problem:
    return Problem(404, "channel_unknown", f"no channel {key!r}; define it with PUT /api/v1/admin/channels/{key}")


def _test_message(who: Principal, key: str, token: str, now: int, action: Action) -> Notification:
    return Notification(
        organisation=who.organisation,
        notify=(key,),
        alert_key="test",
        dedup_key=f"test/{token}",
        action=action,
        severity="info",
        title="Test message from Tidegate",
        message=f"The channel {key} works: alerts that name it will come here.",
        at=now,
    )

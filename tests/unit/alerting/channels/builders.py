"""A notification as a breaker makes it, and a channel of each type."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.alerting.channels.spec import (
    EmailChannel,
    PagerDutyChannel,
    SlackChannel,
    parse_channel,
)
from services.alerting.domain.notification import Notification

ROUTING_KEY = "0123456789abcdef0123456789ABCDEF"
TOKEN = "00112233445566778899aabbccddeeff"

_OPENED = Notification(
    organisation="acme",
    notify=None,
    alert_key="breaker:imports",
    dedup_key="acme/breaker:imports/7",
    action="trigger",
    severity="critical",
    title="Import circuit breaker opened",
    message="Import circuit breaker opened due to consecutive failures",
    at=1_767_323_045_000_006,
    data={"failures": 10, "threshold": 10, "state": "open"},
    runbook_url="https://docs.atlas.com/runbooks/imports",
    dashboard_url="https://dashboard.atlas.com/imports/health",
    alert_id=7,
)


def note(**changes: Any) -> Notification:
    return replace(_OPENED, **changes)


def slack(**changes: Any) -> SlackChannel:
    spec = {"type": "slack", "url": "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"}
    channel = parse_channel({**spec, "channel": "#import-alerts", **changes})
    assert isinstance(channel, SlackChannel)
    return channel


def pagerduty() -> PagerDutyChannel:
    channel = parse_channel({"type": "pagerduty", "routing_key": ROUTING_KEY})
    assert isinstance(channel, PagerDutyChannel)
    return channel


def mail(**changes: Any) -> EmailChannel:
    spec = {
        "type": "email",
        "host": "smtp.atlas.com",
        "from": "Tidegate <alerts@tidegate.example>",
        "to": ["product@atlas.com", "engineering@atlas.com"],
    }
    channel = parse_channel({**spec, **changes})
    assert isinstance(channel, EmailChannel)
    return channel

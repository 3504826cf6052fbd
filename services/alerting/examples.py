"""What a definition looks like, for the documentation of the API. Every example is one that is accepted."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body

RULES: dict[str, Any] = {
    "failure rate": {
        "summary": "Imports that failed, over two hours",
        "description": "`direction` above fires at or over a threshold, below under it. `warning` and `critical` are "
        "numbers or per cent such as 5%; at least one. `window` is 1m to 24h; with fewer than `minimum_sample` in it "
        "nothing is decided. `for` is how long it must hold, `every` how often it is looked at. `notify` names "
        "channels, or channels by severity; without it all are told.",
        "value": {
            "metric": "failure_rate",
            "direction": "above",
            "warning": "5%",
            "critical": "10%",
            "minimum_sample": 20,
            "window": "2h",
            "for": "1m",
            "title": "Import failure rate",
            "runbook_url": "https://docs.example.com/runbooks/imports",
            "notify": {"warning": ["mail"], "critical": ["slack", "pager"]},
        },
    },
    "satisfaction": {
        "summary": "Stars that drop, in each group of the metric by itself",
        "value": {
            "metric": "satisfaction",
            "aggregation": "avg",
            "direction": "below",
            "warning": 4,
            "critical": 3.5,
            "minimum_sample": 20,
            "window": "24h",
        },
    },
}

BREAKERS: dict[str, Any] = {
    "imports": {
        "summary": "Ten failures in a row turn the flag off",
        "description": "After `timeout_ms` (milliseconds) `probe_percentage` of the units are let in; one success "
        "closes it, `recovery_attempts` failed ones hold it open until it is closed by hand. `variant` turns off one "
        "variant of an experiment instead.",
        "value": {
            "metric": "import_streak",
            "failure_threshold": 10,
            "timeout_ms": 60_000,
            "recovery_attempts": 3,
            "probe_percentage": 10,
            "flag": "data_import_enabled",
            "title": "Import circuit breaker",
            "notify": ["slack", "pager"],
        },
    },
}

CHANNELS: dict[str, Any] = {
    "slack": {
        "summary": "Slack, by an incoming webhook",
        "value": {"type": "slack", "url": "https://hooks.slack.com/services/T/B/X", "channel": "#import-alerts"},
    },
    "pagerduty": {
        "summary": "PagerDuty, Events API v2",
        "value": {"type": "pagerduty", "routing_key": "0123456789abcdef0123456789abcdef"},
    },
    "email": {
        "summary": "E-mail, by SMTP",
        "description": "`tls` is none, starttls or tls.",
        "value": {
            "type": "email",
            "host": "smtp.example.com",
            "port": 587,
            "tls": "starttls",
            "username": "tidegate",
            "password": "secret",
            "from": "tidegate@example.com",
            "to": ["oncall@example.com"],
        },
    },
}

RuleSpec = Annotated[dict[str, Any], Body(openapi_examples=RULES)]
BreakerSpec = Annotated[dict[str, Any], Body(openapi_examples=BREAKERS)]
ChannelSpec = Annotated[dict[str, Any], Body(openapi_examples=CHANNELS)]

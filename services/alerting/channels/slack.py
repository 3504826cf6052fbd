"""Slack: the JSON that an incoming webhook takes, within Slack's limits."""

from __future__ import annotations

from typing import Any

import orjson

from services.alerting.channels.spec import SlackChannel
from services.alerting.channels.text import cut, link, printable, units
from services.alerting.channels.wording import colour, facts, headline
from services.alerting.domain.notification import Notification

MAX_HEADER, MAX_SECTION, MAX_FIELDS, MAX_FIELD, MAX_TEXT = 150, 3_000, 10, 2_000, 3_000
"""Characters of a header, a section and a field, fields of a section; the last is ours: Slack cuts from 4,000."""
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def slack_body(channel: SlackChannel, notification: Notification) -> bytes:
    """One message: headline, text, and beside a bar in the severity's colour the facts and links."""
    body: dict[str, Any] = {
        "text": _escaped(headline(notification), MAX_TEXT),
        "blocks": [{"type": "header", "text": _plain(headline(notification), MAX_HEADER)}],
        "attachments": [{"color": colour(notification), "blocks": _details(notification)}],
    }
    message = printable(notification.message).strip()
    if message:
        body["blocks"].append({"type": "section", "text": _mrkdwn(_escaped(message, MAX_SECTION))})
    if channel.channel is not None:
        body["channel"] = channel.channel
    return orjson.dumps(body)


def _details(notification: Notification) -> list[dict[str, Any]]:
    known = facts(notification)
    fields = [_field(name, value) for name, value in known[:MAX_FIELDS]]
    blocks: list[dict[str, Any]] = [{"type": "section", "fields": fields}]
    footer = _links(notification)
    if len(known) > MAX_FIELDS:
        footer.append("The alert in Tidegate has more facts")
    if footer:
        blocks.append({"type": "context", "elements": [_mrkdwn(text) for text in footer]})
    return blocks


def _links(notification: Notification) -> list[str]:
    named = (("Runbook", notification.runbook_url), ("Dashboard", notification.dashboard_url))
    return [f"<{_escaped(url, MAX_FIELD)}|{name}>" for name, found in named if (url := link(found)) is not None]


def _field(name: str, value: str) -> dict[str, Any]:
    title = f"*{_escaped(name, 200)}*\n"
    return _mrkdwn(title + _escaped(value, MAX_FIELD - units(title)))


def _mrkdwn(text: str) -> dict[str, Any]:
    """`verbatim` keeps Slack from making mentions and links of what looks like them."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _plain(text: str, limit: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": cut(text, limit), "emoji": False}


def _escaped(text: str, limit: int) -> str:
    """Safe as mrkdwn, at most `limit` long after escaping, no escape cut in two."""
    pieces = [_ESCAPES.get(character, character) for character in printable(text)]
    if sum(map(units, pieces)) <= limit:
        return "".join(pieces)
    kept, length = [], 1
    for piece in pieces:
        length += units(piece)
        if length > limit:
            break
        kept.append(piece)
    return "".join(kept) + "…"

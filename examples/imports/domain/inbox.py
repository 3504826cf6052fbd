"""What receivers make of what they are sent: refused as the real ones refuse it, or summed up."""

from __future__ import annotations

import email
import email.policy
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from typing import Any, Literal

Channel = Literal["slack", "pagerduty", "email"]

_ACTIONS = {"RESOLVED": "resolve", "ACKNOWLEDGED": "acknowledge"}
_SEVERITIES = ("critical", "error", "warning", "info")
_MAX_EVENT = 512 * 1024


class RefusedError(Exception):
    """`errors` says why, in the receiver's words."""

    def __init__(self, *errors: str) -> None:
        super().__init__(", ".join(errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Received:
    """One message that was accepted. `id` is what would tell a repeat: dedup key or Message-ID; Slack has none."""

    channel: Channel
    action: str
    severity: str
    title: str
    id: str
    thread: str
    """What the messages of one incident have in common, where the channel has such a thing."""
    at: int
    """When it was accepted: microseconds UTC."""
    body: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def slack_message(body: bytes, at: int) -> Received:
    """An incoming webhook's payload. Raises RefusedError with Slack's word for what is wrong."""
    payload = _json_object(body, "invalid_payload")
    blocks, attachments = payload.get("blocks", []), payload.get("attachments", [])
    if not (payload.get("text") or blocks or attachments):
        raise RefusedError("no_text")
    if not isinstance(attachments, list) or len(attachments) > 100:
        raise RefusedError("too_many_attachments")
    every = [blocks, *(part.get("blocks", []) for part in attachments if isinstance(part, dict))]
    if not all(isinstance(some, list) and len(some) <= 50 and all(map(_is_block, some)) for some in every):
        raise RefusedError("invalid_blocks")
    texts = [text for some in every for block in some for text in _texts(block)]
    title = _unescaped(texts[0] if texts else str(payload.get("text", "")))
    severity = next((t.removeprefix("*Severity*\n").lower() for t in texts if t.startswith("*Severity*\n")), "")
    return _received("slack", title, severity, "", "", at, body.decode())


def pagerduty_event(body: bytes, at: int) -> Received:
    """An event of Events API v2. Raises RefusedError with every fault."""
    if len(body) > _MAX_EVENT:
        raise RefusedError("event is larger than 512 KB")
    event = _json_object(body, "JSON cannot be parsed")
    payload, action, key = event.get("payload"), event.get("event_action"), event.get("dedup_key", "")
    errors = []
    if not isinstance(event.get("routing_key"), str) or len(event["routing_key"]) != 32:
        errors.append("Length of 'routing_key' is incorrect (should be 32 characters)")
    if action not in ("trigger", "acknowledge", "resolve"):
        errors.append("'event_action' is invalid (must be trigger, acknowledge or resolve)")
    if not isinstance(key, str) or len(key) > 255 or (action != "trigger" and not key):
        errors.append("'dedup_key' is missing, blank or too long")
    if action == "trigger":
        errors += _payload_errors(payload)
    if not all(isinstance(link, dict) and isinstance(link.get("href"), str) for link in event.get("links", [])):
        errors.append("'links' is invalid")
    if errors:
        raise RefusedError(*errors)
    shown: Mapping[str, Any] = payload if isinstance(payload, Mapping) else {}
    title = re.sub(r"^[A-Z]+: ", "", shown.get("summary", ""))
    return Received("pagerduty", str(action), shown.get("severity", ""), title, key, key, at, body.decode())


def mail(content: bytes, at: int) -> Received:
    """A MIME message. Raises RefusedError if it has no Message-ID, subject or text."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    text = message.get_body(("plain",)) if isinstance(message, EmailMessage) else None
    missing = [name for name in ("Message-ID", "From", "To", "Subject", "Date") if not message[name]]
    if missing or text is None or message.defects:
        raise RefusedError(f"554 5.6.0 malformed message: {', '.join(missing) or 'no text or defects'}")
    words = text.get_content()
    severity = re.search(r"^Severity: (\w+)", words, re.MULTILINE)
    return _received(
        "email",
        str(message["Subject"]),
        severity[1].lower() if severity else "",
        str(message["Message-ID"]),
        str(message["References"] or ""),
        at,
        words,
    )


def _received(channel: Channel, line: str, severity: str, name: str, thread: str, at: int, body: str) -> Received:
    """`line` is a headline such as `CRITICAL: title` or `RESOLVED: title`."""
    word, _, title = line.partition(": ")
    severity = severity or (word.lower() if word.lower() in _SEVERITIES else "")
    return Received(channel, _ACTIONS.get(word, "trigger"), severity, title or line, name, thread, at, body)


def _json_object(body: bytes, fault: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        raise RefusedError(fault) from None
    if not isinstance(value, dict):
        raise RefusedError(fault)
    return value


def _payload_errors(payload: object) -> list[str]:
    if not isinstance(payload, Mapping):
        return ["'payload' is missing or blank"]
    errors = [
        f"'payload.{name}' is missing or blank"
        for name in ("summary", "source")
        if not isinstance(payload.get(name), str) or not payload[name].strip()
    ]
    if len(str(payload.get("summary", ""))) > 1024:
        errors.append("'payload.summary' is too long (maximum is 1024 characters)")
    if payload.get("severity") not in _SEVERITIES:
        errors.append("'payload.severity' is invalid (must be one of: info, warning, error, critical)")
    return errors


def _is_block(block: object) -> bool:
    if not isinstance(block, dict):
        return False
    match block.get("type"):
        case "header":
            return _is_text(block.get("text"), 150, {"plain_text"})
        case "section":
            fields = block.get("fields", [])
            lone = "text" not in block or _is_text(block["text"], 3_000, {"plain_text", "mrkdwn"})
            paired = isinstance(fields, list) and len(fields) <= 10
            return (
                lone
                and paired
                and bool("text" in block or fields)
                and all(_is_text(field, 2_000, {"plain_text", "mrkdwn"}) for field in fields)
            )
        case "context":
            elements = block.get("elements")
            return (
                isinstance(elements, list)
                and 1 <= len(elements) <= 10
                and all(_is_text(element, 2_000, {"plain_text", "mrkdwn"}) for element in elements)
            )
        case "divider":
            return True
    return False


def _is_text(value: object, longest: int, types: set[str]) -> bool:
    """Lengths as JavaScript counts them, the strictest of the ways to count."""
    if not isinstance(value, dict) or value.get("type") not in types or not isinstance(value.get("text"), str):
        return False
    return 1 <= len(value["text"].encode("utf-16-le")) // 2 <= longest


def _texts(block: dict[str, Any]) -> list[str]:
    parts = [block["text"]] if "text" in block else []
    return [part["text"] for part in [*parts, *block.get("fields", []), *block.get("elements", [])]]


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")

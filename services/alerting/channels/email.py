"""E-mail: one MIME message for a notification. The messages of an incident form a thread."""

from __future__ import annotations

import hashlib
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape

from services.alerting.channels.spec import EmailChannel
from services.alerting.channels.text import cut, link, one_line, printable
from services.alerting.channels.wording import colour, facts, headline
from services.alerting.domain.notification import Notification
from shared.clock import to_datetime

MAX_SUBJECT = 200
_MAX_FACT = 2_000
_POLICY = SMTP.clone(cte_type="7bit")
"""CRLF, and nothing beyond ASCII on the wire: every relay takes that."""


def email_bytes(channel: EmailChannel, notification: Notification, token: str) -> bytes:
    """The message as it goes over the wire, the same for the same arguments.

    `token` names the notification: its Message-ID is the same at every attempt. All messages of an incident answer
    one that was never sent, so that they are shown as one thread wherever it begins.
    """
    domain = channel.sender.domain
    root = f"<incident.{hashlib.sha256(notification.dedup_key.encode()).hexdigest()[:32]}@{domain}>"
    message = EmailMessage(policy=_POLICY)
    message["From"] = channel.sender
    message["To"] = channel.to
    message["Subject"] = cut(headline(notification), MAX_SUBJECT)
    message["Date"] = format_datetime(to_datetime(notification.at))
    message["Message-ID"] = f"<{token}@{domain}>"
    message["In-Reply-To"] = root
    message["References"] = root
    message["Auto-Submitted"] = "auto-generated"
    if notification.severity == "critical" and notification.action == "trigger":
        message["Importance"] = "high"
    known = [(name, cut(value, _MAX_FACT)) for name, value in facts(notification)]
    named = (("Runbook", link(notification.runbook_url)), ("Dashboard", link(notification.dashboard_url)))
    links = [(name, url) for name, url in named if url is not None]
    message.set_content(_plain(notification, known, links))
    message.add_alternative(_html(notification, known, links), subtype="html")
    message.set_boundary(f"=_{hashlib.sha256(token.encode()).hexdigest()[:32]}")
    return message.as_bytes()


def _plain(notification: Notification, known: list[tuple[str, str]], links: list[tuple[str, str]]) -> str:
    lines = [headline(notification), "", printable(notification.message).strip(), ""]
    lines += [f"{name}: {value}" for name, value in known]
    lines += ["", *(f"{name}: {url}" for name, url in links)]
    return "\n".join(lines).rstrip() + "\n"


def _html(notification: Notification, known: list[tuple[str, str]], links: list[tuple[str, str]]) -> str:
    rows = "\n".join(
        f'<tr><th align="left" valign="top">{escape(one_line(name))}</th>'
        f'<td style="white-space:pre-wrap">{escape(value)}</td></tr>'
        for name, value in known
    )
    anchors = " · ".join(f'<a href="{escape(url)}">{escape(name)}</a>' for name, url in links)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"></head>\n'
        f'<body style="font-family:sans-serif"><div style="border-left:6px solid {colour(notification)};'
        'padding-left:12px">\n'
        f"<h2>{escape(headline(notification))}</h2>\n"
        f'<p style="white-space:pre-wrap">{escape(printable(notification.message).strip())}</p>\n'
        f'<table cellpadding="4">\n{rows}\n</table>\n'
        f"<p>{anchors}</p>\n"
        "</div></body></html>\n"
    )

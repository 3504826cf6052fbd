"""What goes over the wire, byte for byte, and what no text can make of it."""

from __future__ import annotations

import email
import email.policy
import json
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.imports.domain.inbox import mail as read_mail
from examples.imports.domain.inbox import pagerduty_event, slack_message
from services.alerting.channels.email import email_bytes
from services.alerting.channels.pagerduty import MAX_EVENT, pagerduty_body
from services.alerting.channels.slack import slack_body
from services.alerting.channels.text import units
from services.alerting.domain.notification import Notification, dedup_key_of, storable, storable_data
from tests.unit.alerting.channels.builders import ROUTING_KEY, TOKEN, mail, note, pagerduty, slack

GOLDEN = Path(__file__).parent / "golden"
CLOSED = note(action="resolve", title="Import circuit breaker closed", message="", data={})


def _golden(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


def _mail(content: bytes) -> EmailMessage:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert message.defects == []
    return message


def _texts(body: Any) -> list[str]:
    """Every text of a Slack message, at any depth."""
    if isinstance(body, dict):
        own = [body["text"]] if isinstance(body.get("text"), str) else []
        return own + [text for value in body.values() for text in _texts(value)]
    return [text for value in body for text in _texts(value)] if isinstance(body, list) else []


def test_slack_is_told_of_an_incident_as_recorded() -> None:
    assert json.loads(slack_body(slack(), note())) == _golden("slack_trigger.json")


def test_slack_is_told_of_its_end_as_recorded() -> None:
    assert json.loads(slack_body(slack(channel=None), CLOSED)) == _golden("slack_resolve.json")


def test_pagerduty_is_told_of_an_incident_as_recorded() -> None:
    assert json.loads(pagerduty_body(pagerduty(), note())) == _golden("pagerduty_trigger.json")


def test_pagerduty_is_told_of_its_end_as_recorded() -> None:
    assert json.loads(pagerduty_body(pagerduty(), CLOSED)) == _golden("pagerduty_resolve.json")


def test_a_mail_is_written_as_recorded_and_the_same_at_every_attempt() -> None:
    content = email_bytes(mail(), note(), TOKEN)
    assert content == (GOLDEN / "email_trigger.eml").read_bytes().replace(b"\n", b"\r\n")
    assert content == email_bytes(mail(), note(), TOKEN)


@pytest.mark.parametrize("severity", ["info", "warning", "error", "critical"])
def test_severity_is_said_in_words_and_shown_in_a_colour_of_its_own(severity: Any) -> None:
    body = json.loads(slack_body(slack(), note(severity=severity)))
    assert body["text"].startswith(severity.upper())
    others = {
        json.loads(slack_body(slack(), note(severity=other)))["attachments"][0]["color"]
        for other in ("info", "warning", "error", "critical")
        if other != severity
    }
    assert body["attachments"][0]["color"] not in others


def test_the_mails_of_an_incident_answer_the_same_message_and_those_of_another_do_not() -> None:
    opened = _mail(email_bytes(mail(), note(), "1" * 32))
    closed = _mail(email_bytes(mail(), CLOSED, "2" * 32))
    other = _mail(email_bytes(mail(), note(dedup_key="acme/breaker:imports/8"), "3" * 32))
    assert opened["References"] == opened["In-Reply-To"] == closed["References"] != other["References"]
    assert opened["Message-ID"] != closed["Message-ID"]


def test_a_title_cannot_add_headers_to_a_mail() -> None:
    title = "Fail\r\nBcc: victim@example.com\r\n\r\nA body of its own"
    message = _mail(email_bytes(mail(), note(title=title, alert_key=title, organisation=title), TOKEN))
    assert "Bcc" not in message
    assert message["Subject"] == "CRITICAL: Fail Bcc: victim@example.com A body of its own"


def test_a_subject_beyond_ascii_is_encoded_and_read_back() -> None:
    content = email_bytes(mail(**{"from": "Wächter <alerts@tidegate.example>"}), note(title="Größe 漢字 😀"), TOKEN)
    assert content.isascii()
    message = _mail(content)
    assert message["Subject"] == "CRITICAL: Größe 漢字 😀"
    assert message["From"] == "Wächter <alerts@tidegate.example>"


def test_text_cannot_become_markup_or_a_mention() -> None:
    evil = "<!channel> <https://evil.example|click> & </td><script>alert(1)</script>"
    slack_texts = _texts(json.loads(slack_body(slack(), note(title=evil, message=evil, data={evil: evil}))))
    headers = [text for text in slack_texts if text.startswith("CRITICAL")]
    assert headers[0] == "CRITICAL: &lt;!channel&gt; &lt;https://evil.example|click&gt; &amp; " + (
        "&lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;"
    )
    marked = [text for text in slack_texts if "<" in text]
    # The header is plain text, where Slack reads no markup; all else are our own links.
    assert [text for text in marked if not text.startswith(("<https://docs.", "<https://dashboard."))] == headers[1:]
    html = _mail(email_bytes(mail(), note(title=evil, message=evil, data={evil: evil}), TOKEN)).get_body(("html",))
    assert html is not None
    assert "<script>" not in html.get_content()


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "/relative", "https://", "http://[", "https://a\nb", "", None]
)
def test_what_is_no_web_address_is_not_linked(url: str | None) -> None:
    silent = note(runbook_url=url, dashboard_url=url)
    event = json.loads(pagerduty_body(pagerduty(), silent))
    assert "links" not in event
    assert "client_url" not in event
    assert [t for t in _texts(json.loads(slack_body(slack(), silent))) if "Runbook" in t] == []
    assert b"Runbook" not in email_bytes(mail(), silent, TOKEN)


def test_a_link_ends_where_its_address_ends() -> None:
    body = json.loads(slack_body(slack(), note(runbook_url="https://docs/x|y>z <w", dashboard_url=None)))
    assert "<https://docs/x%7Cy%3Ez%20%3Cw|Runbook>" in _texts(body)


def test_a_huge_incident_stays_within_the_limits() -> None:
    big = storable_data({f"{i}" * 300: "😀<&" * 9_000 for i in range(900)})
    huge = note(title=storable("😀&" * 20_000), message=storable("<😀" * 20_000), data=big)
    event = pagerduty_body(pagerduty(), huge)
    assert len(event) <= MAX_EVENT
    assert pagerduty_event(event, 0).severity == "critical"
    assert units(json.loads(event)["payload"]["summary"]) == 1_024
    slack_message(slack_body(slack(), huge), 0)
    content = email_bytes(mail(), huge, TOKEN)
    assert read_mail(content, 0).severity == "critical"
    assert max(map(len, content.split(b"\r\n"))) <= 998


_ANY_TEXT = st.one_of(st.text(st.characters(), max_size=400), st.text("<>&|*😀\n\r\x00\ud800 a", max_size=5_000))
_ANY_DATA = st.dictionaries(
    _ANY_TEXT, st.one_of(_ANY_TEXT, st.floats(), st.integers(), st.lists(_ANY_TEXT)), max_size=14
)


@given(title=_ANY_TEXT, message=_ANY_TEXT, data=_ANY_DATA, url=_ANY_TEXT)
def test_receivers_take_whatever_an_incident_is_called(
    title: str, message: str, data: dict[str, Any], url: str
) -> None:
    """The texts as the outbox stores them; the receivers' own checks are the judge."""
    any_note = note(
        title=storable(title), message=storable(message), data=storable_data(data), runbook_url=f"https://x/{url}"
    )
    assert slack_message(slack_body(slack(), any_note), 0).action == "trigger"
    assert pagerduty_event(pagerduty_body(pagerduty(), any_note), 0).id == any_note.dedup_key
    content = email_bytes(mail(), any_note, TOKEN)
    assert read_mail(content, 0).id == f"<{TOKEN}@tidegate.example>"
    assert set(_mail(content).keys()) == set(_mail(email_bytes(mail(), note(), TOKEN)).keys())


def test_the_routing_key_is_nowhere_but_in_its_field() -> None:
    event = pagerduty_body(pagerduty(), note()).decode()
    assert event.count(ROUTING_KEY) == 1


def test_long_dedup_keys_are_cut_but_stay_different() -> None:
    keys = {dedup_key_of("acme", "rule:" + "x" * 400, n) for n in range(10)}
    assert len(keys) == 10
    assert {len(key) for key in keys} == {255}
    assert dedup_key_of("acme", "rule:a", 1) == "acme/rule:a/1"


def test_a_notification_says_its_key_where_it_has_no_title() -> None:
    untitled: Notification = note(title=" \n ")
    assert json.loads(slack_body(slack(), untitled))["text"] == "CRITICAL: breaker:imports"

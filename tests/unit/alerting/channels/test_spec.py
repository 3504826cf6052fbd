"""Channel definitions: what is refused, where, and what is never shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.alerting.channels.spec import (
    PAGERDUTY_URL,
    EmailChannel,
    PagerDutyChannel,
    check_key,
    parse_channel,
    type_of,
    with_kept_secrets,
    without_secrets,
)
from services.alerting.channels.text import redacted
from shared.definition_error import DefinitionError
from tests.unit.alerting.channels.builders import ROUTING_KEY, mail, pagerduty, slack

SLACK = {"type": "slack", "url": "https://hooks.slack.com/services/T00/B00/abcdefghijkl"}
PAGERDUTY = {"type": "pagerduty", "routing_key": ROUTING_KEY}
EMAIL = {"type": "email", "host": "smtp.atlas.com", "from": "a@b.example", "to": ["oncall@atlas.com"]}

FAULTS: list[tuple[Any, str]] = [
    (None, "spec"),
    ([], "spec"),
    ({}, "spec.type"),
    ({"type": ["slack"]}, "spec.type"),
    ({"type": "Slack"}, "spec.type"),
    ({"type": "slack"}, "spec.url"),
    (SLACK | {"url": 5}, "spec.url"),
    (SLACK | {"url": "ftp://x"}, "spec.url"),
    (SLACK | {"url": "https://user:pw@x"}, "spec.url"),
    (SLACK | {"url": "https://x:99999/"}, "spec.url"),
    (SLACK | {"url": "https://x:0/"}, "spec.url"),
    (SLACK | {"url": "https://[::1"}, "spec.url"),
    (SLACK | {"url": "https://x/a b"}, "spec.url"),
    (SLACK | {"url": "https://x/a\nb"}, "spec.url"),
    (SLACK | {"url": "https://ü/"}, "spec.url"),
    (SLACK | {"url": "https://a..b/"}, "spec.url"),
    (SLACK | {"url": "https:///x"}, "spec.url"),
    (SLACK | {"url": "https://x/" + "a" * 1_000_000}, "spec.url"),
    (SLACK | {"chanel": "#a"}, "spec.chanel"),
    (SLACK | {"channel": "#a b"}, "spec.channel"),
    (SLACK | {"channel": "<!channel>"}, "spec.channel"),
    (PAGERDUTY | {"routing_key": "short"}, "spec.routing_key"),
    (PAGERDUTY | {"routing_key": 2**70}, "spec.routing_key"),
    (PAGERDUTY | {"url": "x"}, "spec.url"),
    ({"type": "email"}, "spec.host"),
    (EMAIL | {"host": "a b"}, "spec.host"),
    (EMAIL | {"host": "a..b"}, "spec.host"),
    (EMAIL | {"port": True}, "spec.port"),
    (EMAIL | {"port": 0}, "spec.port"),
    (EMAIL | {"port": 2**70}, "spec.port"),
    (EMAIL | {"port": "25"}, "spec.port"),
    (EMAIL | {"tls": "maybe"}, "spec.tls"),
    (EMAIL | {"tls": True}, "spec.tls"),
    (EMAIL | {"username": "u"}, "spec.password"),
    (EMAIL | {"password": "p"}, "spec.username"),
    (EMAIL | {"username": "u\r\nx", "password": "p"}, "spec.username"),
    (EMAIL | {"from": None}, "spec.from"),
    (EMAIL | {"from": "a@b\r\nBcc: c@d"}, "spec.from"),
    (EMAIL | {"from": "A\nB <a@b>"}, "spec.from"),
    (EMAIL | {"to": "a@b"}, "spec.to"),
    (EMAIL | {"to": []}, "spec.to"),
    (EMAIL | {"to": ["a@b"] * 51}, "spec.to"),
    (EMAIL | {"to": ["a@b", "ä@b"]}, "spec.to[1]"),
    (EMAIL | {"to": ["a..b@c"]}, "spec.to[0]"),
    (EMAIL | {"to": [{}]}, "spec.to[0]"),
]


@pytest.mark.parametrize(("spec", "place"), FAULTS, ids=[f"{n}-{place}" for n, (_, place) in enumerate(FAULTS)])
def test_a_fault_is_refused_with_its_place(spec: Any, place: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_channel(spec)
    assert caught.value.place == place


def test_a_fault_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_channel(SLACK | {"url": "hooks.slack.com/services/secret"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "-a", "a b", "a" * 129, "ä", "a\n"])
def test_odd_keys_are_refused(key: str) -> None:
    with pytest.raises(DefinitionError, match=r"^key"):
        check_key(key)


def test_what_is_left_out_has_the_protocols_defaults() -> None:
    event = parse_channel(PAGERDUTY)
    assert isinstance(event, PagerDutyChannel)
    assert event.url == PAGERDUTY_URL
    for spec, port, tls in (({}, 587, "starttls"), ({"tls": "tls"}, 465, "tls"), ({"tls": "none"}, 25, "none")):
        channel = parse_channel(EMAIL | spec)
        assert isinstance(channel, EmailChannel)
        assert (channel.port, channel.tls) == (port, tls)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/services/a/b/c", "https://[::1]:8443/x", "https://a_b.c./x?y=z"]
)
def test_any_web_address_may_be_a_webhook(url: str) -> None:
    assert slack(url=url).url == url


@pytest.mark.parametrize(
    ("spec", "secret"),
    [
        (SLACK, "url"),
        (PAGERDUTY, "routing_key"),
        (EMAIL | {"username": "u", "password": "correct horse"}, "password"),
    ],
)
def test_secrets_are_hidden_and_kept(spec: dict[str, Any], secret: str) -> None:
    hidden = without_secrets(spec)
    assert hidden[secret] == "***"
    assert spec[secret] not in str(hidden)
    assert spec[secret] not in repr(parse_channel(spec))
    assert with_kept_secrets(hidden, spec) == spec
    with pytest.raises(DefinitionError, match=secret):
        with_kept_secrets(hidden, None)
    with pytest.raises(DefinitionError, match=secret):
        with_kept_secrets(hidden, {"type": "another"})


def test_a_kept_secret_goes_to_no_other_place() -> None:
    stored = EMAIL | {"username": "u", "password": "correct horse"}
    for change in ({"host": "evil.example"}, {"port": 2525}, {"tls": "none"}):
        with pytest.raises(DefinitionError, match=r"spec.password: must be given again"):
            with_kept_secrets(stored | {"password": "***"} | change, stored)
    with pytest.raises(DefinitionError, match=r"spec.routing_key: must be given again"):
        with_kept_secrets(PAGERDUTY | {"routing_key": "***", "url": "https://evil.example"}, PAGERDUTY)


def test_what_a_receiver_says_is_shown_without_the_secrets_it_repeats() -> None:
    hook = slack()
    said = f"no hook {hook.url}, nor XXXXXXXXXXXXXXXXXXXXXXXX"
    assert redacted(said, hook.secrets) == "no hook ***, nor ***"
    assert redacted(f"bad key {ROUTING_KEY}", pagerduty().secrets) == "bad key ***"
    assert redacted("all well", mail().secrets) == "all well"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_FIELDS = ["url", "channel", "routing_key", "host", "port", "tls", "username", "password", "from", "to", "x"]


@given(
    st.sampled_from([SLACK, PAGERDUTY, EMAIL]),
    st.dictionaries(st.sampled_from([*_FIELDS, "type"]), _JSON | st.text("a@.<> -=?\"'", max_size=20), max_size=4),
)
def test_any_json_is_a_channel_or_has_a_fault(spec: dict[str, Any], changes: dict[str, Any]) -> None:
    try:
        channel = parse_channel(with_kept_secrets(spec | changes, spec))
    except DefinitionError as error:
        place = error.place
    else:
        place = f"spec.type={type_of(channel)}"
    assert place == f"spec.type={spec['type']}" or place.removesuffix("]").split("[")[0] in {
        f"spec.{name}" for name in (*_FIELDS, "type")
    }

"""Channel definitions: what users write, checked, and what may be shown of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.headerregistry import Address
from typing import Any, Literal
from urllib.parse import urlsplit

from services.alerting.channels.text import MAX_URL
from shared.definition_error import DefinitionError

HIDDEN = "***"
PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"

Tls = Literal["none", "starttls", "tls"]

_PORTS: dict[Tls, int] = {"none": 25, "starttls": 587, "tls": 465}
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_SLACK_CHANNEL = re.compile(r"[#@]?[^\s#@<>&|\x00-\x1f\x7f]{1,80}")
_ROUTING_KEY = re.compile(r"[A-Za-z0-9]{32}")
_LABELS = r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63}){0,30}"
_HOST = re.compile(rf"{_LABELS}\.?|(?=[^:]*:)[0-9A-Fa-f:.]{{2,45}}")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=^_`{|}~-]+"
_ADDRESS = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABELS}")
_NAMED_ADDRESS = re.compile(r"(?P<name>[^<>]{0,100}?)\s*<(?P<address>[^<>]+)>")
_MAX_RECIPIENTS = 50
_MAX_SECRET = 1_000

_SECRETS = {"slack": ("url",), "pagerduty": ("routing_key",), "email": ("password",)}
_DESTINATIONS = {"slack": (), "pagerduty": ("url",), "email": ("host", "port", "tls")}
"""A kept secret goes to no other place than the one it was given for."""


@dataclass(frozen=True, slots=True)
class SlackChannel:
    """An incoming webhook; `channel` overrides the webhook's own where Slack still lets it."""

    url: str = field(repr=False)
    channel: str | None

    @property
    def secrets(self) -> tuple[str, ...]:
        path = urlsplit(self.url).path
        return self.url, path.strip("/"), *(part for part in path.split("/") if len(part) >= 8)


@dataclass(frozen=True, slots=True)
class PagerDutyChannel:
    routing_key: str = field(repr=False)
    url: str

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.routing_key,)


@dataclass(frozen=True, slots=True)
class EmailChannel:
    host: str
    port: int
    tls: Tls
    username: str | None
    password: str | None = field(repr=False)
    sender: Address
    to: tuple[Address, ...]

    @property
    def secrets(self) -> tuple[str, ...]:
        return () if self.password is None else (self.password,)


Channel = SlackChannel | PagerDutyChannel | EmailChannel


def type_of(channel: Channel) -> str:
    """The word that a spec says it with."""
    match channel:
        case SlackChannel():
            return "slack"
        case PagerDutyChannel():
            return "pagerduty"
        case EmailChannel():
            return "email"


def check_key(key: str) -> None:
    """Raises DefinitionError."""
    if not _KEY.fullmatch(key):
        raise DefinitionError(
            "key", "1 to 128 letters, digits, '_', '.', ':' or '-', starting with a letter or digit"
        )


def parse_channel(spec: object) -> Channel:
    """Checks `spec` and returns what it means. Raises DefinitionError."""
    if not isinstance(spec, Mapping):
        raise DefinitionError("spec", "must be an object")
    match spec.get("type"):
        case "slack":
            return _slack(spec)
        case "pagerduty":
            return _pagerduty(spec)
        case "email":
            return _email(spec)
    raise DefinitionError("spec.type", "must be slack, pagerduty or email")


def with_kept_secrets(spec: Mapping[str, Any], stored: Mapping[str, Any] | None) -> dict[str, Any]:
    """The spec with the stored secret wherever it says `***`, and without fields that are null.

    Raises DefinitionError if there is none, or if it would go to another place than before.
    """
    complete = {name: value for name, value in spec.items() if value is not None}
    kind = complete.get("type")
    if not isinstance(kind, str) or kind not in _SECRETS:
        return complete
    for name in _SECRETS[kind]:
        if complete.get(name) != HIDDEN:
            continue
        if stored is None or stored.get("type") != kind or name not in stored:
            raise DefinitionError(f"spec.{name}", f"{HIDDEN} keeps what is stored, but nothing is")
        moved = [place for place in _DESTINATIONS[kind] if complete.get(place) != stored.get(place)]
        if moved:
            raise DefinitionError(f"spec.{name}", f"must be given again, because {' and '.join(moved)} changes")
        complete[name] = stored[name]
    return complete


def without_secrets(spec: Mapping[str, Any]) -> dict[str, Any]:
    hidden = _SECRETS[spec["type"]]
    return {name: HIDDEN if name in hidden else value for name, value in spec.items()}


def _slack(spec: Mapping[str, Any]) -> SlackChannel:
    _refuse_unknown(spec, {"type", "url", "channel"})
    channel = spec.get("channel")
    if channel is not None and not (isinstance(channel, str) and _SLACK_CHANNEL.fullmatch(channel)):
        raise DefinitionError("spec.channel", "must be a name such as #import-alerts")
    return SlackChannel(_url(spec.get("url"), "spec.url"), channel)


def _pagerduty(spec: Mapping[str, Any]) -> PagerDutyChannel:
    _refuse_unknown(spec, {"type", "routing_key", "url"})
    key = spec.get("routing_key")
    if not isinstance(key, str) or not _ROUTING_KEY.fullmatch(key):
        raise DefinitionError("spec.routing_key", "must be an integration key: 32 letters and digits")
    url = spec.get("url")
    return PagerDutyChannel(key, PAGERDUTY_URL if url is None else _url(url, "spec.url"))


def _email(spec: Mapping[str, Any]) -> EmailChannel:
    _refuse_unknown(spec, {"type", "host", "port", "tls", "username", "password", "from", "to"})
    host, tls = spec.get("host"), spec.get("tls")
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        raise DefinitionError("spec.host", "must be a host name or address")
    mode: Tls
    match tls:
        case "none":
            mode = "none"
        case "starttls" | None:
            mode = "starttls"
        case "tls":
            mode = "tls"
        case _:
            raise DefinitionError("spec.tls", "must be none, starttls or tls")
    port = spec.get("port")
    if port is None:
        port = _PORTS[mode]
    if type(port) is not int or not 1 <= port <= 65535:
        raise DefinitionError("spec.port", "must be a port number")
    username, password = _credential(spec, "username"), _credential(spec, "password")
    if (username is None) is not (password is None):
        raise DefinitionError(f"spec.{'username' if username is None else 'password'}", "one needs the other")
    return EmailChannel(
        host=host,
        port=port,
        tls=mode,
        username=username,
        password=password,
        sender=_address(spec.get("from"), "spec.from"),
        to=_recipients(spec.get("to")),
    )


def _recipients(spec: object) -> tuple[Address, ...]:
    if not isinstance(spec, list | tuple) or not 1 <= len(spec) <= _MAX_RECIPIENTS:
        raise DefinitionError("spec.to", f"must be a list of 1 to {_MAX_RECIPIENTS} addresses")
    return tuple(_address(one, f"spec.to[{i}]") for i, one in enumerate(spec))


def _address(spec: object, place: str) -> Address:
    """`name@host` or `Some Name <name@host>`."""
    what = "must be an ASCII address such as oncall@example.com, or a name and the address in angle brackets"
    if not isinstance(spec, str) or len(spec) > 500 or not spec.isprintable():
        raise DefinitionError(place, what)
    named = _NAMED_ADDRESS.fullmatch(spec)
    name, address = (named["name"].strip(' "'), named["address"]) if named else ("", spec)
    if not _ADDRESS.fullmatch(address):
        raise DefinitionError(place, what)
    return Address(display_name=name, addr_spec=address)


def _url(spec: object, place: str) -> str:
    what = f"must be an http or https address of at most {MAX_URL} ASCII characters, without user and password"
    if (
        not isinstance(spec, str)
        or len(spec) > MAX_URL
        or not spec.isascii()
        or not spec.isprintable()
        or " " in spec
    ):
        raise DefinitionError(place, what)
    try:
        parts = urlsplit(spec)
        port = parts.port
    except ValueError:
        raise DefinitionError(place, what) from None
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(host) or port == 0 or "@" in parts.netloc:
        raise DefinitionError(place, what)
    return spec


def _credential(spec: Mapping[str, Any], name: str) -> str | None:
    value = spec.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_SECRET or not value.isprintable():
        raise DefinitionError(f"spec.{name}", f"must be a text of 1 to {_MAX_SECRET} printable characters")
    return value


def _refuse_unknown(spec: Mapping[str, Any], known: set[str]) -> None:
    for name in spec:
        if name not in known:
            raise DefinitionError(f"spec.{name}", f"unknown; known are {', '.join(sorted(known))}")

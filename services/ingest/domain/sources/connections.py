"""How each type of source is reached: `connection_config`, checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from services.ingest.domain.sources.expression import Expression
from services.ingest.domain.sources.fields import Fields
from services.ingest.domain.sources.signatures import ALGORITHMS, ENCODINGS, SCHEMES, SignatureScheme
from shared.definition_error import DefinitionError

PLACE = "connection_config"

_SERVER = re.compile(r"[A-Za-z0-9_.-]{1,253}:[0-9]{1,5}|\[[0-9A-Fa-f:.]{2,45}\]:[0-9]{1,5}")
_TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
_MAX_SERVERS = 50
_MAX_SECRET = 8_000
_MAX_PEM = 64_000
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_RESETS = ("latest", "earliest")
CLOUDEVENTS = "cloudevents"
_FORMATS = ("json", CLOUDEVENTS)
_MAX_INCLUDED = 20
_PRESETS: Mapping[str, tuple[str, str, str | None]] = {
    "github": ("x-hub-signature-256", "sha256=", "x-github-delivery"),
    "stripe": ("stripe-signature", "", None),
    "slack": ("x-slack-signature", "", None),
}
"""Scheme → the header with the signature, what stands before it, and the header that names a delivery."""


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Another cluster's topic, read as a consumer group."""

    bootstrap_servers: tuple[str, ...]
    topic: str
    group_id: str
    auto_offset_reset: str
    """Where a group that has read nothing yet begins: `latest` or `earliest`."""
    security_protocol: str
    sasl_mechanism: str
    sasl_username: str | None
    sasl_password: str | None = field(repr=False)
    ssl_ca: str | None
    format: str
    """`json`, or `cloudevents`: each record is a CloudEvent, in binary or structured mode."""


@dataclass(frozen=True, slots=True)
class HttpConnection:
    """A URL that is asked every `interval` seconds."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    interval: float
    timeout: float
    items: Expression | None
    """JMESPath to the list of items; None: the answer is the list, or one item."""
    item_id: Expression | None
    """JMESPath within an item; None: its content is its identity."""
    cursor: Expression | None
    """JMESPath to the cursor of what follows, which is sent as the parameter `cursor_parameter`."""
    cursor_parameter: str | None
    next_link: Expression | None
    """JMESPath to the URL of the next page."""


@dataclass(frozen=True, slots=True)
class WebSocketConnection:
    """A socket that others serve and that tells what happens."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    subscribe: str | None = field(repr=False)
    """Sent once after each connecting."""
    ping: float
    """Seconds between pings; a peer that does not answer within as many is gone."""
    resume: Expression | None
    """JMESPath within a message to where to go on after it, which is sent as the parameter `resume_parameter`."""
    resume_parameter: str | None


@dataclass(frozen=True, slots=True)
class SseConnection:
    """A stream of server-sent events; it goes on after the last event's id."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    silence: float
    """Seconds without a byte after which the stream counts as broken."""


@dataclass(frozen=True, slots=True)
class WebhookConnection:
    """Somebody calls us; nothing is read."""

    signature: SignatureScheme
    id_header: str | None
    """The header, in lower case, that names a delivery and stays the same when it is repeated."""
    include_headers: tuple[str, ...]
    """Headers, in lower case, that the mapping sees, as `headers` beside `body`; without any it sees the body."""


Connection = KafkaConnection | HttpConnection | WebSocketConnection | SseConnection | WebhookConnection


def parse_connection(source_type: str, config: object, key: str) -> Connection:
    """Raises DefinitionError; one about a type that does not run names those that do."""
    parse = _PARSERS.get(source_type)
    if parse is None:
        raise DefinitionError("source_type", f"must be one of {', '.join(SOURCE_TYPES)}")
    return parse(config, key)


def destination(config: Mapping[str, Any]) -> object:
    """Whom a source's secrets are shown to, and who may listen: a kept secret goes to nobody else."""
    servers = config.get("bootstrap_servers")
    if servers is not None:
        listed = servers.split(",") if isinstance(servers, str) else servers
        who = sorted(map(str, listed)) if isinstance(listed, list) else str(servers)
        return who, [config.get(name) for name in ("security_protocol", "sasl_mechanism", "ssl_ca")]
    url = config.get("url")
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port
    except ValueError:
        return url


def secrets_of(connection: Connection) -> tuple[str, ...]:
    """Texts that must be in no log and no answer, longest first: one may hold another."""
    match connection:
        case KafkaConnection():
            found = [connection.sasl_password]
        case WebSocketConnection():
            found = [connection.subscribe, *connection.headers.values()]
        case WebhookConnection():
            found = [*connection.signature.secrets]
        case _:
            found = [*connection.headers.values()]
    texts = {text.removeprefix("Bearer ") for text in found if text}
    return tuple(sorted(texts, key=len, reverse=True))


def _kafka(config: object, key: str) -> KafkaConnection:
    fields = Fields(
        config,
        {
            *("bootstrap_servers", "topic", "group_id", "auto_offset_reset", "security_protocol"),
            *("sasl_mechanism", "sasl_username", "sasl_password", "ssl_ca", "format"),
        },
        PLACE,
    )
    protocol = fields.one_of("security_protocol", _PROTOCOLS, "PLAINTEXT")
    user = fields.optional("sasl_username", longest=500)
    password = fields.optional("sasl_password", longest=_MAX_SECRET)
    if protocol.startswith("SASL"):
        for name, value in (("sasl_username", user), ("sasl_password", password)):
            if value is None:
                raise fields.fault(name, f"is missing: {protocol} needs it")
    elif user is not None or password is not None:
        raise fields.fault("security_protocol", "must be SASL_SSL or SASL_PLAINTEXT for a user and password")
    topic = fields.text("topic", longest=249)
    if not _TOPIC.fullmatch(topic):
        raise fields.fault("topic", "must be letters, digits, '.', '_' or '-'")
    return KafkaConnection(
        bootstrap_servers=_servers(fields),
        topic=topic,
        group_id=fields.optional("group_id", longest=200) or f"tidegate-{key}",
        auto_offset_reset=fields.one_of("auto_offset_reset", _RESETS, "latest"),
        security_protocol=protocol,
        sasl_mechanism=fields.one_of("sasl_mechanism", _MECHANISMS, "PLAIN"),
        sasl_username=user,
        sasl_password=password,
        ssl_ca=fields.optional("ssl_ca", longest=_MAX_PEM),
        format=fields.one_of("format", _FORMATS, "json"),
    )


def _servers(fields: Fields) -> tuple[str, ...]:
    given = fields.raw("bootstrap_servers")
    servers = [part.strip() for part in given.split(",")] if isinstance(given, str) else given
    if not isinstance(servers, list) or not 1 <= len(servers) <= _MAX_SERVERS:
        raise fields.fault("bootstrap_servers", f'must be a list of 1 to {_MAX_SERVERS} such as "kafka-1:9092"')
    for server in servers:
        if not isinstance(server, str) or not _SERVER.fullmatch(server) or int(server.rpartition(":")[2]) > 65535:
            raise fields.fault("bootstrap_servers", f"{str(server)[:100]!r} must be HOST:PORT")
    return tuple(servers)


def _http(config: object, key: str) -> HttpConnection:
    known = {"url", "auth_token", "headers", "interval_seconds", "timeout_seconds", "items", "item_id"}
    fields = Fields(config, {*known, "cursor", "cursor_parameter", "next_link"}, PLACE)
    cursor, link = fields.expression("cursor"), fields.expression("next_link")
    parameter = fields.optional("cursor_parameter", longest=100)
    if cursor is not None and link is not None:
        raise fields.fault("next_link", "cannot stand beside cursor: pages are found by one of them")
    if (cursor is None) != (parameter is None):
        raise fields.fault("cursor_parameter", "and cursor stand together: the parameter that the cursor is sent as")
    return HttpConnection(
        url=fields.url("url", ("http", "https")),
        headers=_headers(fields),
        interval=fields.number("interval_seconds", 60, least=1, most=86_400),
        timeout=fields.number("timeout_seconds", 30, least=1, most=300),
        items=fields.expression("items"),
        item_id=fields.expression("item_id"),
        cursor=cursor,
        cursor_parameter=parameter,
        next_link=link,
    )


def _websocket(config: object, key: str) -> WebSocketConnection:
    known = {"url", "auth_token", "headers", "subscribe", "ping_seconds", "resume", "resume_parameter"}
    fields = Fields(config, known, PLACE)
    resume, parameter = fields.expression("resume"), fields.optional("resume_parameter", longest=100)
    if (resume is None) != (parameter is None):
        raise fields.fault("resume_parameter", "and resume stand together: the parameter that the place is sent as")
    return WebSocketConnection(
        url=fields.url("url", ("ws", "wss")),
        headers=_headers(fields),
        subscribe=fields.optional("subscribe", longest=_MAX_SECRET),
        ping=fields.number("ping_seconds", 20, least=1, most=300),
        resume=resume,
        resume_parameter=parameter,
    )


def _sse(config: object, key: str) -> SseConnection:
    fields = Fields(config, {"url", "auth_token", "headers", "silence_seconds"}, PLACE)
    return SseConnection(
        url=fields.url("url", ("http", "https")),
        headers=_headers(fields),
        silence=fields.number("silence_seconds", 90, least=1, most=3_600),
    )


def _webhook(config: object, key: str) -> WebhookConnection:
    known = {"scheme", "secret", "previous_secret", "header", "algorithm", "encoding", "prefix"}
    fields = Fields(config, {*known, "tolerance_seconds", "id_header", "include_headers"}, PLACE)
    scheme = fields.one_of("scheme", SCHEMES, "hmac")
    preset = _PRESETS.get(scheme)
    header = fields.header("header")
    if preset is not None:
        for name in ("header", "algorithm", "encoding", "prefix"):
            if fields.raw(name) is not None:
                raise fields.fault(name, f"is given by the scheme {scheme}")
        header = preset[0]
    elif header is None:
        raise fields.fault("header", "is missing: the header that holds the signature")
    previous = fields.optional("previous_secret", longest=_MAX_SECRET)
    secrets = (fields.text("secret", longest=_MAX_SECRET), *([] if previous is None else [previous]))
    included = fields.raw("include_headers")
    if included is not None and not (isinstance(included, list) and len(included) <= _MAX_INCLUDED):
        raise fields.fault("include_headers", f"must be a list of at most {_MAX_INCLUDED} header names")
    return WebhookConnection(
        signature=SignatureScheme(
            name=scheme,
            secrets=secrets,
            header=header,
            algorithm=fields.one_of("algorithm", ALGORITHMS, "sha256"),
            encoding=fields.one_of("encoding", ENCODINGS, "hex"),
            prefix=preset[1] if preset is not None else fields.optional("prefix", longest=100) or "",
            tolerance=fields.number("tolerance_seconds", 300, least=1, most=86_400),
        ),
        id_header=fields.header("id_header") or (preset[2] if preset is not None else None),
        include_headers=tuple(fields.header_name("include_headers", name) for name in included or ()),
    )


def _headers(fields: Fields) -> dict[str, str]:
    headers = fields.headers("headers")
    token = fields.optional("auth_token", longest=_MAX_SECRET)
    if token is None:
        return headers
    if any(name.lower() == "authorization" for name in headers):
        raise fields.fault("auth_token", "cannot stand beside the header Authorization")
    if not (token.isascii() and token.isprintable()):
        raise fields.fault("auth_token", "must be printable ASCII characters")
    return {**headers, "Authorization": f"Bearer {token}"}


_PARSERS: Mapping[str, Callable[[object, str], Connection]] = {
    "kafka": _kafka,
    "http": _http,
    "websocket": _websocket,
    "sse": _sse,
    "webhook": _webhook,
}
SOURCE_TYPES = tuple(_PARSERS)
"""Those that run."""

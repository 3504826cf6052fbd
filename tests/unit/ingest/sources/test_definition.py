"""What a data source may be, and what of it may be seen."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.ingest.domain.sources.connections import SOURCE_TYPES, KafkaConnection, secrets_of
from services.ingest.domain.sources.definition import check_key, key_of, parse_source
from services.ingest.domain.sources.secrets import (
    HIDDEN,
    SECRET_FIELDS,
    SECRET_MAPPINGS,
    joined,
    merged,
    parted,
    with_kept,
)
from services.ingest.sources.examples import SOURCES
from shared.definition_error import DefinitionError

KAFKA = {"bootstrap_servers": ["kafka-1:9092", "kafka-2:9092"], "topic": "production.events"}
HTTP = {"url": "https://shop.example.com/orders"}
SASL = {"security_protocol": "SASL_SSL", "sasl_username": "u", "sasl_password": "secret"}


def parsed(type: str, config: object, **more: Any) -> Any:
    spec = {"source_name": "A", "source_type": type, "connection_config": config, **more}
    return parse_source("acme", "key", 2, 1, spec)


def fault(type: str, config: object, **more: Any) -> DefinitionError:
    with pytest.raises(DefinitionError) as refused:
        parsed(type, config, **more)
    return refused.value


@pytest.mark.parametrize("name", SOURCES)
def test_every_example_is_accepted(name: str) -> None:
    spec = SOURCES[name]["value"]
    assert parse_source("acme", key_of(spec["source_name"]), 2, 1, spec).type == spec["source_type"]


def test_every_type_that_runs_has_an_example() -> None:
    assert set(SOURCES) == set(SOURCE_TYPES)


def test_the_seeds_kafka_source_is_read_key_by_key() -> None:
    config = {**KAFKA, "group_id": "erp-consumer", "auto_offset_reset": "latest"}
    connection = parsed("KAFKA", config).connection
    assert isinstance(connection, KafkaConnection)
    assert connection.bootstrap_servers == ("kafka-1:9092", "kafka-2:9092")
    assert (connection.topic, connection.group_id) == ("production.events", "erp-consumer")
    assert connection.auto_offset_reset == "latest"
    assert parsed("kafka", {**KAFKA, "bootstrap_servers": "a:1, b:2"}).connection.bootstrap_servers == ("a:1", "b:2")


@pytest.mark.parametrize(
    ("type", "config", "place"),
    [
        ("carrier-pigeon", {}, "source_type"),
        ("kafka", [], "connection_config"),
        ("kafka", {}, "connection_config.topic"),
        ("kafka", {**KAFKA, "topic": "a b"}, "connection_config.topic"),
        ("kafka", {**KAFKA, "topic": ".."}, "connection_config.topic"),
        ("kafka", {**KAFKA, "bootstrap_servers": []}, "connection_config.bootstrap_servers"),
        ("kafka", {**KAFKA, "bootstrap_servers": ["kafka"]}, "connection_config.bootstrap_servers"),
        ("kafka", {**KAFKA, "bootstrap_servers": ["kafka:99999"]}, "connection_config.bootstrap_servers"),
        ("kafka", {**KAFKA, "auto_offset_reset": "middle"}, "connection_config.auto_offset_reset"),
        ("kafka", {**KAFKA, "sasl_password": "x"}, "connection_config.security_protocol"),
        ("kafka", {**KAFKA, "security_protocol": "SASL_SSL"}, "connection_config.sasl_username"),
        ("kafka", {**KAFKA, "colour": "red"}, "connection_config.colour"),
        ("http", {}, "connection_config.url"),
        ("http", {"url": "ftp://x/y"}, "connection_config.url"),
        ("http", {"url": "http://user:pw@x/y"}, "connection_config.url"),
        ("http", {"url": "http://[::1"}, "connection_config.url"),
        ("http", {**HTTP, "interval_seconds": 0}, "connection_config.interval_seconds"),
        ("http", {**HTTP, "items": "a["}, "connection_config.items"),
        ("http", {**HTTP, "cursor": "next"}, "connection_config.cursor_parameter"),
        ("http", {**HTTP, "headers": {"a b": "c"}}, "connection_config.headers"),
        ("http", {**HTTP, "headers": {"a": "c\r\nd: e"}}, "connection_config.headers.a"),
        ("http", {**HTTP, "auth_token": "t", "headers": {"authorization": "x"}}, "connection_config.auth_token"),
        ("websocket", HTTP, "connection_config.url"),
        ("websocket", {"url": "ws://x", "resume": "id"}, "connection_config.resume_parameter"),
        ("sse", {**HTTP, "silence_seconds": True}, "connection_config.silence_seconds"),
        ("webhook", {"scheme": "github"}, "connection_config.secret"),
        ("webhook", {"secret": "s"}, "connection_config.header"),
        ("webhook", {"secret": "s", "header": "a b"}, "connection_config.header"),
        ("webhook", {"scheme": "gitlab", "secret": "s"}, "connection_config.scheme"),
        ("webhook", {"scheme": "slack", "secret": "s", "prefix": "v0="}, "connection_config.prefix"),
        ("webhook", {"scheme": "slack", "secret": "s", "include_headers": [5]}, "connection_config.include_headers"),
    ],
)
def test_a_wrong_connection_is_refused_at_the_fault(type: str, config: object, place: str) -> None:
    assert fault(type, config).place == place


def test_a_type_that_does_not_run_names_those_that_do() -> None:
    assert fault("mqtt", {}).what == "must be one of kafka, http, websocket, sse, webhook"


def test_a_key_is_made_of_the_name_and_stays_within_what_keys_may_hold() -> None:
    assert key_of("Production Events / Übersee") == "production-events-ubersee"
    assert check_key(key_of("x" * 300)) == "x" * 64
    for name in ("", "日本", "!!"):
        with pytest.raises(DefinitionError):
            key_of(name)
    for key in ("", "A", "-a", "a/b", "a" * 65):
        with pytest.raises(DefinitionError):
            check_key(key)


def test_secrets_are_parted_from_what_may_be_shown_and_joined_again() -> None:
    config = {**HTTP, "auth_token": "t0ken", "headers": {"X-Key": "k3y"}}
    shown, secrets = parted(config)
    assert "t0ken" not in str(shown)
    assert "k3y" not in str(shown)
    assert (shown["auth_token"], shown["headers"]) == (HIDDEN, {"X-Key": HIDDEN})
    assert joined(shown, secrets) == config


def test_a_connection_does_not_show_its_secrets() -> None:
    connections = [
        parsed("kafka", {**KAFKA, **SASL, "sasl_password": "s3cret"}).connection,
        parsed("http", {**HTTP, "auth_token": "s3cret"}).connection,
        parsed("websocket", {"url": "ws://x", "subscribe": "s3cret"}).connection,
    ]
    for connection in connections:
        assert "s3cret" not in repr(connection)
        assert secrets_of(connection) == ("s3cret",)


def test_a_patch_keeps_secrets_that_it_leaves_out_and_removes_what_is_null() -> None:
    stored = {**KAFKA, **SASL}
    assert merged({"topic": "other"}, stored) == {**stored, "topic": "other"}
    assert merged({"sasl_password": HIDDEN}, stored) == stored
    assert merged({"sasl_password": "new"}, stored)["sasl_password"] == "new"
    assert "sasl_password" not in merged({"sasl_password": None}, stored)


def test_a_kept_secret_goes_to_no_other_address() -> None:
    stored = {**HTTP, "auth_token": "t", "headers": {"X-Key": "k"}}
    assert merged({"url": "https://shop.example.com/other"}, stored)["auth_token"] == "t"
    for url in (
        "https://evil.example.com/orders",
        "http://shop.example.com/orders",
        "https://shop.example.com:8443/o",
    ):
        with pytest.raises(DefinitionError, match="give the secret again"):
            merged({"url": url}, stored)
    with pytest.raises(DefinitionError, match="give the secret again"):
        merged({"bootstrap_servers": ["evil:9092"]}, {**KAFKA, **SASL})


@pytest.mark.parametrize("change", [{"security_protocol": "SASL_PLAINTEXT"}, {"ssl_ca": "other"}])
def test_a_kept_password_is_not_sent_where_others_may_listen(change: dict[str, str]) -> None:
    with pytest.raises(DefinitionError, match="give the secret again"):
        merged(change, {**KAFKA, **SASL})
    assert merged({"topic": "other"}, {**KAFKA, **SASL})["sasl_password"] == "secret"


def test_a_hidden_secret_stands_for_nothing_where_none_is_stored() -> None:
    with pytest.raises(DefinitionError, match=r"connection_config\.headers\.X-Key"):
        with_kept({**HTTP, "headers": {"X-Key": HIDDEN}}, HTTP)


def test_the_examples_of_the_guide_are_accepted() -> None:
    guide = (Path(__file__).parents[4] / "docs" / "sources.md").read_text(encoding="utf-8")
    posted = json.loads(re.findall(r"-d '(\{.*?\})'\n```", guide, re.DOTALL)[0])
    applied = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)[0])
    assert parse_source("acme", key_of(posted["source_name"]), 2, 1, posted).type == "kafka"
    assert applied["kind"] == "source"
    assert parse_source("acme", applied["key"], 3, 1, applied["spec"]).name == applied["key"]


def test_the_guide_names_every_type_and_every_secret() -> None:
    guide = (Path(__file__).parents[4] / "docs" / "sources.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in guide for name in SECRET_FIELDS | SECRET_MAPPINGS | {"websocket", "sse"})

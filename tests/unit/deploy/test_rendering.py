"""What is rendered for Kafka, PostgreSQL, the gateway and the services."""

import re
from pathlib import Path

import pytest

from deploy.local import gateway, kafka, migrations, postgres, services
from deploy.local.process import OWN_ACCOUNT
from shared.settings import Settings


def test_kafka_listens_on_loopback_only_and_creates_no_topic_by_itself() -> None:
    text = kafka.server_properties(data=Path("/d"), port=1111, controller_port=2222)
    settings = dict(line.split("=", 1) for line in text.splitlines())
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:1111,CONTROLLER://127.0.0.1:2222"
    assert settings["advertised.listeners"] == "PLAINTEXT://127.0.0.1:1111"
    assert settings["log.dirs"] == "/d"
    assert settings["auto.create.topics.enable"] == "false"
    assert settings["group.initial.rebalance.delay.ms"] == "0"


def test_kafka_keeps_a_bounded_number_of_bytes() -> None:
    text = kafka.server_properties(data=Path("/d"), port=1, controller_port=2)
    retained = re.search(r"^log\.retention\.bytes=(\d+)$", text, re.MULTILINE)
    assert retained is not None
    assert 0 < int(retained[1]) <= 10_000_000_000


def test_a_cluster_id_is_never_taken_for_an_option() -> None:
    ids = {kafka.new_cluster_id() for _ in range(1_000)}  # one in 64 would begin with a dash
    assert len(ids) == 1_000
    assert all(re.fullmatch(r"\w[\w-]{21}", cluster_id) for cluster_id in ids)


def test_postgres_listens_on_loopback_and_opens_no_socket_file() -> None:
    process = postgres.server(data=Path("/d/data"), port=5555, password="pw", account=OWN_ACCOUNT)
    assert "listen_addresses=127.0.0.1" in process.argv
    assert "unix_socket_directories=" in process.argv
    assert not any("pw" in argument for argument in process.argv)


def test_every_placeholder_of_the_caddyfile_is_known_and_has_the_default_of_docker_compose() -> None:
    text = gateway.caddyfile().read_text(encoding="utf-8")
    placeholders = dict(re.findall(r"\{\$(\w+):([^}]*)\}", text))
    assert set(placeholders) == {*gateway.BACKENDS, "TIDEGATE_GATEWAY_HOST", "TIDEGATE_GATEWAY_PORT"}
    for placeholder, service in gateway.BACKENDS.items():
        assert placeholders[placeholder].split(":")[0] == service


def test_the_gateway_is_told_every_backends_address_and_writes_only_into_its_directory() -> None:
    environment = gateway.gateway_environment(
        host="127.0.0.1", port=8080, backends={"ingest": 1, "aggregator-api": 2, "kafka": 3}, directory=Path("/g")
    )
    assert environment["TIDEGATE_INGEST"] == "127.0.0.1:1"
    assert environment["TIDEGATE_AGGREGATOR_API"] == "127.0.0.1:2"
    assert "TIDEGATE_ALERTING" not in environment
    assert environment["XDG_DATA_HOME"].startswith("/g/")
    assert environment["XDG_CONFIG_HOME"].startswith("/g/")


NEIGHBOURS = services.Neighbours(
    "127.0.0.1:9", "postgresql://u:p@127.0.0.1:5/d", Path("/s/keys.json"), "debug", Path("/s/sealing.keys")
)


@pytest.mark.parametrize("service", services.SERVICES, ids=lambda service: service.name)
def test_a_services_environment_is_one_that_its_settings_accept(service: services.Service) -> None:
    settings = Settings.from_environment(services.service_environment(service, NEIGHBOURS, 1234))
    assert (settings.kafka, settings.postgres) == (NEIGHBOURS.kafka, NEIGHBOURS.postgres)
    assert (settings.host, settings.port) == ("127.0.0.1", 1234)
    assert settings.log_level == "DEBUG"


def test_only_the_owner_of_keys_learns_where_the_first_ones_stand() -> None:
    told = {
        service.name: Settings.from_environment(services.service_environment(service, NEIGHBOURS, 1)).bootstrap_keys
        for service in services.SERVICES
    }
    assert {name for name, keys in told.items() if keys is not None} == {"assignment"}
    assert told["assignment"] == "/s/keys.json"


def test_only_who_seals_secrets_learns_where_the_keys_for_that_stand() -> None:
    told = {
        service.name: Settings.from_environment(services.service_environment(service, NEIGHBOURS, 1)).sealing_keys
        for service in services.SERVICES
    }
    assert {name: keys for name, keys in told.items() if keys is not None} == {"ingest": "/s/sealing.keys"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://u:p@h:5/d", "postgresql://u:p@h:5/d?sslmode=disable"),
        ("postgresql://u:p@h/d?sslmode=require", "postgresql://u:p@h/d?sslmode=require"),
        ("postgresql://u:p%40@h/d?a=b", "postgresql://u:p%40@h/d?sslmode=disable&a=b"),
    ],
)
def test_migrations_use_tls_only_when_the_url_says_so(given: str, expected: str) -> None:
    assert migrations.without_tls(given) == expected


def test_only_services_with_sql_files_are_migrated() -> None:
    for service, directory in migrations.migration_directories().items():
        assert directory.parent.name == service
        assert list(directory.glob("*.sql"))

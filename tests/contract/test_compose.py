"""docker-compose.yml fits the specification, the Caddyfile, the services' settings and the embedded stack."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from deploy.local import control, gateway, kafka, postgres
from deploy.local.services import SERVICES
from services.ingest.processes import STOP_SECONDS
from shared.settings import Settings
from tests.contract.composed import (
    COMPOSE_FILE,
    MONITORING_FILE,
    ROOT,
    composed,
    own_services,
    ports,
    services,
    variables,
)
from tidegate.commands import migrate

PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+[\w.-]*")
JOBS = {"migrate", "first-keys", "first-sealing-key"}


class Asked(Mapping[str, str]):
    """An environment that remembers which of its variables somebody looked for."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = {name: str(value) for name, value in variables.items()}
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


def validate(path: Path) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path))
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("path", [COMPOSE_FILE, MONITORING_FILE], ids=lambda path: path.name)
def test_the_file_follows_the_compose_specification(path: Path) -> None:
    answer = validate(path)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_specification_finds_a_misspelt_key(tmp_path: Path) -> None:
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(COMPOSE_FILE.read_text(encoding="utf-8").replace("stop_grace_period", "stop_grace_time"))
    assert "stop_grace_time" in validate(wrong).stdout


def test_every_image_is_pinned_to_a_version() -> None:
    images = {name: service["image"] for name, service in services().items()}
    assert {name for name, image in images.items() if not PINNED.fullmatch(image)} == set()


def test_the_services_are_those_of_the_embedded_stack_and_run_the_same_programs() -> None:
    expected = {service.name: ["python", *service.command] for service in SERVICES}
    assert {name: service["command"] for name, service in own_services().items()} == expected


@pytest.mark.parametrize("name", sorted(service.name for service in SERVICES))
def test_a_services_environment_is_complete_and_holds_nothing_that_it_does_not_read(name: str) -> None:
    asked = Asked(services()[name]["environment"])
    settings = Settings.from_environment(asked)
    assert set(asked) <= asked.names
    assert settings.kafka == "kafka:9092"
    assert "@postgres:5432/" in settings.postgres


def test_the_migration_job_is_told_what_the_command_reads() -> None:
    app = typer.Typer()
    migrate.register(app)
    read = {str(parameter.envvar) for parameter in get_command(app).params if parameter.envvar}
    given = set(services()["migrate"]["environment"]) - set(composed()["x-neighbours"])
    assert not given
    assert {"TIDEGATE_KAFKA", "TIDEGATE_POSTGRES"} <= read & set(services()["migrate"]["environment"])


def test_the_caddyfiles_defaults_are_the_names_and_ports_of_the_services() -> None:
    text = gateway.caddyfile().read_text(encoding="utf-8")
    defaults = dict(re.findall(r"\{\$(\w+):([^}]*)\}", text))
    assert {defaults[placeholder] for placeholder in gateway.BACKENDS} == {
        f"{service}:{ports()[service]}" for service in gateway.BACKENDS.values()
    }


def test_only_the_gateway_is_published_and_on_loopback_only() -> None:
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    text = gateway.caddyfile().read_text(encoding="utf-8")
    listening = dict(re.findall(r"\{\$(TIDEGATE_GATEWAY_\w+):([^}]*)\}", text))["TIDEGATE_GATEWAY_PORT"]
    assert published == {"gateway": [f"127.0.0.1:8080:{listening}"]}


def test_what_waits_for_health_waits_for_a_container_that_has_a_health_check() -> None:
    for name, service in services().items():
        waits = service.get("depends_on", {})
        for dependency in waits:
            assert dependency in services(), f"{name} depends on {dependency}"
            condition = waits[dependency]["condition"] if isinstance(waits, dict) else "service_started"
            assert (condition == "service_completed_successfully") == (dependency in JOBS)
            if condition == "service_healthy":
                assert "test" in services()[dependency]["healthcheck"]


def test_every_container_that_keeps_running_is_restarted_watched_and_ended_in_peace() -> None:
    for name, service in services().items():
        assert service["restart"] == ("no" if name in JOBS else "unless-stopped")
        if name not in JOBS and "build" not in service:
            assert "test" in service["healthcheck"], name
    for name in [*own_services(), "kafka", "postgres"]:
        assert services()[name]["stop_grace_period"] in ("20s", "30s", "40s")


def test_ingest_may_end_as_slowly_in_the_embedded_stack_as_its_workers_may(tmp_path: Path) -> None:
    embedded = {service.name: service.stop_timeout for service in SERVICES}
    assert embedded["ingest"] > STOP_SECONDS
    assert services()["ingest"]["stop_grace_period"] == f"{embedded['ingest']:.0f}s"
    last = kafka.broker((), config=tmp_path / "server.properties", port=9092).stop_timeout
    assert max(embedded.values()) + last < control.PATIENCE


def test_our_own_containers_may_write_to_their_volumes_and_to_tmp_only() -> None:
    for name, service in services().items():
        if "build" in service:
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert service["tmpfs"] == ["/tmp"]


def test_every_volume_is_declared_or_a_file_of_ours() -> None:
    mounted = [volume.split(":")[0] for service in services().values() for volume in service.get("volumes", [])]
    files = [source for source in mounted if source.startswith("./")]
    assert set(mounted) - set(files) == set(composed()["volumes"])
    assert [source for source in files if not (ROOT / source).exists()] == []


def test_the_keys_are_written_where_assignment_reads_them() -> None:
    file = services()["assignment"]["environment"]["TIDEGATE_BOOTSTRAP_KEYS"]
    assert services()["first-keys"]["command"][-1] == file
    directory = str(Path(file).parent)
    assert services()["first-keys"]["volumes"] == [f"keys:{directory}"]
    assert services()["assignment"]["volumes"] == [f"keys:{directory}:ro"]


def test_the_sealing_key_is_written_where_ingest_alone_reads_it() -> None:
    file = services()["ingest"]["environment"]["TIDEGATE_SEALING_KEYS"]
    directory = str(Path(file).parent)
    assert services()["first-sealing-key"]["command"][-1] == file
    mounted = {name: service.get("volumes", []) for name, service in services().items()}
    holders = {name for name, volumes in mounted.items() if any(volume.startswith("sealing:") for volume in volumes)}
    assert holders == {"ingest", "first-sealing-key"}
    assert mounted["ingest"] == [f"sealing:{directory}:ro"]


def test_the_example_names_every_variable_with_its_default() -> None:
    lines = (ROOT / "deploy" / "docker" / "example.env").read_text(encoding="utf-8").splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert example == {**variables(COMPOSE_FILE), **variables(MONITORING_FILE)}


def test_kafka_is_set_up_as_in_the_embedded_stack() -> None:
    text = kafka.server_properties(data=Path("/d"), port=1, controller_port=2)
    embedded = dict(line.split("=", 1) for line in text.splitlines())
    environment = services()["kafka"]["environment"]
    given = {name.removeprefix("KAFKA_").lower().replace("_", "."): str(value) for name, value in environment.items()}
    addresses = {name for name in embedded if "listeners" in name or "quorum" in name} | {"log.dirs"}
    shared = (given.keys() & embedded.keys()) - addresses
    assert {name: given[name] for name in shared} == {name: embedded[name] for name in shared}
    assert {"auto.create.topics.enable", "message.max.bytes", "log.retention.bytes"} <= shared
    assert all(role in given["process.roles"] for role in ("broker", "controller"))


def test_postgres_is_set_up_as_in_the_embedded_stack() -> None:
    program, *options = services()["postgres"]["command"]
    given = dict(option.removeprefix("-c").split("=", 1) for option in options)
    assert program == "postgres"
    assert given == {name: postgres.SETTINGS[name] for name in given}
    assert services()["postgres"]["image"].split(":")[1].startswith("18.")

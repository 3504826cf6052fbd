"""Other systems that take events over HTTP into Kafka: named by URL, or by the command that starts them.

A command's arguments may have `{kafka}` (the broker's address), `{topic}`, `{port}` (where it should listen, on the
loopback address) and `{config}`: a file that we write for a system that we know, with what makes it fast and lets it
answer only after all replicas have the events.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench.ingest.forms import BENTO, STRIMZI, Form, form_of
from bench.ingest.target import Target

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_MAX_REQUEST = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer finds and leaves things; `directory` is its own."""

    kafka: str
    topic: str
    port: int
    directory: Path


@dataclass(frozen=True, slots=True)
class Peer:
    """Either runs at `url` already or is started by `command`, program first."""

    name: str
    url: str = ""
    command: tuple[str, ...] = ()

    @property
    def form(self) -> Form:
        return form_of(self.name)


@dataclass(frozen=True, slots=True)
class Start:
    """A peer's command with everything filled in, and its environment besides ours."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def parse_peer(text: str) -> Peer:
    """From `NAME=URL` or `NAME=COMMAND`. Raises ValueError with what is wrong."""
    name, _, what = text.partition("=")
    if not _NAME.fullmatch(name) or not what.strip():
        raise ValueError(f"{text!r} is not NAME=URL or NAME=COMMAND; a name has a-z, 0-9 and single dashes")
    if what.startswith(("http://", "https://")):
        Target.of(what)
        return Peer(name, url=what)
    program, *arguments = shlex.split(what)
    found = shutil.which(program)
    if found is None:
        raise ValueError(f"the program {program!r} of {name} is not there")
    if not any(placeholder in what for placeholder in ("{port}", "{config}")):
        raise ValueError(f"the command of {name} needs {{port}} or {{config}}: where it should listen")
    if "{config}" in what and form_of(name).name not in _CONFIGURATIONS:
        known = " or ".join(_CONFIGURATIONS)
        raise ValueError(f"{{config}} is written for systems whose name begins with {known}, not for {name}")
    return Peer(name, command=(str(Path(found).absolute()), *arguments))


def start_of(peer: Peer, place: Place) -> Start:
    """Writes what `{config}` stands for. Raises OSError."""
    filled = {"{kafka}": place.kafka, "{topic}": place.topic, "{port}": str(place.port)}
    environment: Mapping[str, str] = {}
    if configure := _CONFIGURATIONS.get(peer.form.name):
        config, environment = configure(place)
        filled["{config}"] = str(config)
    return Start(tuple(_fill(argument, filled) for argument in peer.command), environment)


def _fill(argument: str, filled: Mapping[str, str]) -> str:
    for placeholder, value in filled.items():
        argument = argument.replace(placeholder, value)
    return argument


def _bento(place: Place) -> tuple[Path, Mapping[str, str]]:
    """JSON, which is YAML. Its answer waits for the output's; events are neither parsed nor keyed.

    Without batches of its own before those of its Kafka client, single events cost it a quarter more.
    """
    config = place.directory / "bento.yaml"
    settings = {
        "http": {"enabled": False},
        "logger": {"level": "ERROR"},
        "metrics": {"none": {}},
        "input": {"http_server": {"address": f"127.0.0.1:{place.port}", "path": BENTO.path, "timeout": "60s"}},
        "pipeline": {"processors": [{"unarchive": {"format": "lines"}}]},
        "output": {
            "kafka_franz": {
                "seed_brokers": [place.kafka],
                "topic": place.topic,
                "idempotent_write": True,  # includes acks=all
                "max_in_flight": 256,
                "batching": {"count": 128, "period": "1ms"},
                "compression": "lz4",
                "max_buffered_records": 100_000,
            }
        },
    }
    config.write_bytes(msgspec.json.encode(settings))
    return config, {}


def _strimzi(place: Place) -> tuple[Path, Mapping[str, str]]:
    """Its producers wait for nobody to join a batch: each serves one connection, on which one request is open."""
    config = place.directory / "strimzi.properties"
    logging = place.directory / "strimzi-log4j2.properties"
    settings = {
        "bridge.id": "bench",
        "kafka.bootstrap.servers": place.kafka,
        "kafka.producer.acks": "all",
        "kafka.producer.enable.idempotence": "true",
        "kafka.producer.linger.ms": 0,
        "kafka.producer.batch.size": 262_144,
        "kafka.producer.compression.type": "lz4",
        "kafka.producer.max.request.size": _MAX_REQUEST,
        "http.host": "127.0.0.1",
        "http.port": place.port,
        "http.cors.enabled": "false",
    }
    config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="ascii")
    # As it is delivered it logs every request.
    logging.write_text("rootLogger.level = ERROR\n", encoding="ascii")
    return config, {
        "KAFKA_BRIDGE_LOG4J_OPTS": f"-Dlog4j2.configurationFile={logging.as_uri()}",
        "LOG4J_CONFIGURATION_FILE": logging.as_uri(),
    }


_CONFIGURATIONS: Mapping[str, Callable[[Place], tuple[Path, Mapping[str, str]]]] = {
    BENTO.name: _bento,
    STRIMZI.name: _strimzi,
}

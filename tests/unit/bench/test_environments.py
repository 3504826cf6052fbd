"""What the peers run on is pinned, matches our Kafka, and is told when it cannot be had."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.aggregator.environments import PEERS, STREAMS_LOCK, NotHereError, import_path, virtual_environment
from deploy.local.artifacts import LOCK_FILE, parse_lock

PYTHON_LOCKS = [PEERS / "bytewax.lock", PEERS / "quix.lock"]


@pytest.mark.parametrize("lock", PYTHON_LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_pins_every_package_by_version_and_hash_and_names_no_host(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    for package in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[a-z0-9-]+==[^\s;]+", package), package
        assert "--hash=sha256:" in package


def test_kafka_streams_is_of_the_brokers_version_and_brings_nothing_that_the_broker_has() -> None:
    kafka = {jar.artifact: jar.version for jar in parse_lock(LOCK_FILE.read_text(encoding="utf-8"))}
    streams = {jar.artifact: jar.version for jar in parse_lock(STREAMS_LOCK.read_text(encoding="utf-8"))}
    assert streams["kafka-streams"] == kafka["kafka-clients"]
    assert not streams.keys() & kafka.keys()


def test_another_environment_can_import_bench_and_nothing_else_of_ours(tmp_path: Path) -> None:
    def imports(module: str) -> bool:
        code = f"import sys; sys.path.insert(0, {str(import_path(tmp_path))!r}); import {module}"
        return subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True).returncode == 0

    assert imports("bench.aggregator.peers")
    assert not imports("services")
    assert not imports("tidegate")


async def test_an_environment_that_cannot_be_made_is_told_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "bench").write_text("in the way of the cache's directory")
    with pytest.raises(NotHereError, match="bench"):
        await virtual_environment("bytewax", tmp_path)

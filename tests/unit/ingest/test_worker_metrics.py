"""Several processes behind one port show the metrics of all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from services.ingest.worker_metrics import WorkerMetrics


@asynccontextmanager
async def _worker(number: int, directory: Path, accepted: int) -> AsyncIterator[WorkerMetrics]:
    registry = CollectorRegistry()
    Counter("accepted", "Events", ["topic"], registry=registry).labels("events").inc(accepted)
    Histogram("seconds", "Duration", buckets=(1, 2), registry=registry).observe(number)
    metrics = WorkerMetrics(registry, number, directory)
    await metrics.start()
    try:
        yield metrics
    finally:
        await metrics.stop()


def _samples(text: bytes, name: str) -> dict[str, float]:
    """Process → value."""
    families = text_string_to_metric_families(text.decode())
    return {s.labels["process"]: s.value for family in families for s in family.samples if s.name == name}


async def test_whoever_is_asked_shows_all(tmp_path: Path) -> None:
    async with _worker(0, tmp_path, 3) as first, _worker(1, tmp_path, 4) as second:
        for asked in (first, second):
            text = await asked.text()
            assert _samples(text, "accepted_total") == {"0": 3, "1": 4}
            assert _samples(text, "seconds_count") == {"0": 1, "1": 1}
            assert text.count(b"# TYPE accepted_total counter") == 1


async def test_a_process_that_is_gone_is_missing_and_one_that_follows_it_is_there(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "1.sock"))  # what a killed process leaves: nobody listens
    async with _worker(0, tmp_path, 3) as first:
        assert _samples(await first.text(), "accepted_total") == {"0": 3}
        async with _worker(1, tmp_path, 5):
            assert _samples(await first.text(), "accepted_total") == {"0": 3, "1": 5}
        assert _samples(await first.text(), "accepted_total") == {"0": 3}


async def test_a_process_that_is_killed_while_it_tells_is_missing(tmp_path: Path) -> None:
    async def die(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'# TYPE accepted_total counter\naccepted_total{topic="eve')
        writer.close()

    dying = await asyncio.start_unix_server(die, tmp_path / "1.sock")
    async with dying, _worker(0, tmp_path, 3) as first:
        assert _samples(await first.text(), "accepted_total") == {"0": 3}

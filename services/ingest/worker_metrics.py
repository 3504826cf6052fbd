"""`/metrics` of several processes behind one port: whichever is asked shows all, each sample with its `process`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

LABEL = "process"
_SUFFIX = ".sock"
_PATIENCE = 1.0
"""Seconds for a process that is there but does not answer: its samples are missing then."""


class WorkerMetrics:
    """Tells siblings our samples and asks them for theirs, over sockets in a directory of the parent's."""

    def __init__(self, registry: CollectorRegistry, number: int, directory: Path) -> None:
        self._registry = registry
        self._own = directory / f"{number}{_SUFFIX}"
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._own.unlink(missing_ok=True)  # of one who was killed
        self._server = await asyncio.start_unix_server(self._tell, self._own)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._own.unlink(missing_ok=True)

    async def text(self) -> bytes:
        """What all processes show, in the text format."""
        paths = sorted(self._own.parent.glob(f"*{_SUFFIX}"))
        asked = [path for path in paths if path != self._own]
        told = dict(zip(asked, await asyncio.gather(*map(_asked, asked)), strict=True))
        told[self._own] = generate_latest(self._registry).decode()
        return together([(path.stem, told[path]) for path in sorted(told) if told[path]])

    async def _tell(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(generate_latest(self._registry))
            await writer.drain()
        except OSError:
            pass  # whoever asked is gone
        finally:
            writer.close()


async def _asked(path: Path) -> str:
    """Empty if that process does not answer."""
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                told = await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        logger.warning("a process does not tell its metrics", extra={"worker": path.stem, "error": repr(error)})
        return ""
    # Who was killed while it told them leaves a line that is cut, and nothing else about it is true any more.
    return told.decode() if told.endswith(b"\n") else ""


def together(texts: Sequence[tuple[str, str]]) -> bytes:
    """Process and what it shows → what all show: families once, their samples with the label `process`."""
    families: dict[str, Metric] = {}
    for process, text in texts:
        for family in text_string_to_metric_families(text):
            known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                known.add_sample(sample.name, {**sample.labels, LABEL: process}, sample.value)
    return generate_latest(_Families(families.values()))


class _Families(Collector):
    """Of the registry's interface only what showing needs."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families

"""The Node SDKs of Segment, PostHog and CloudEvents, unmodified, against a process of ingest on real Kafka."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.clients import FAULTS, SEGMENT_CALLS, Fault, Ingest, Project, happened, shown

pytestmark = pytest.mark.skipif(shutil.which("npm") is None, reason="Node is not installed")

PROGRAMS = Path(__file__).parent / "node"
HAPPENED = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
UUIDS = [f"0190a8f0-0000-7000-8000-00000000000{n}" for n in range(4)]


@pytest_asyncio.fixture(scope="module")
async def ingest(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingest]:
    async with Ingest.running(kafka, tmp_path_factory.mktemp("ingest") / "log") as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs with the packages that their lock names."""
    directory = tmp_path_factory.mktemp("clients") / "node"
    shutil.copytree(PROGRAMS, directory)
    await completed("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=directory)
    return directory


async def completed(*command: str, cwd: Path, **env: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode(errors="replace")


async def run(programs: Path, name: str, project: Project, url: str) -> None:
    settings = {"URL": url, "KEY": project.key, "HAPPENED": HAPPENED.isoformat(), "UUIDS": ",".join(UUIDS)}
    await completed("node", name, cwd=programs, **settings)


@pytest.mark.parametrize("faults", FAULTS)
async def test_segments_client_delivers_every_call(ingest: Ingest, programs: Path, faults: Sequence[Fault]) -> None:
    project = await ingest.project()

    async with ingest.line(faults).open() as line:
        await run(programs, "segment.js", project, line.url)
        assert not line.faults

    events = await project.arrived(6)
    assert happened(events, HAPPENED)
    assert shown(events) == SEGMENT_CALLS


@pytest.mark.parametrize("faults", FAULTS)
async def test_posthogs_client_delivers_every_event(ingest: Ingest, programs: Path, faults: Sequence[Fault]) -> None:
    project = await ingest.project()

    async with ingest.line(faults).open() as line:
        await run(programs, "posthog.js", project, line.url)
        assert not line.faults

    events = await project.arrived(7)
    found = shown(events)
    assert {uuid: found[uuid][:3] for uuid in UUIDS} == {
        UUIDS[0]: ("order_completed", "u-1", None),
        UUIDS[1]: ("$pageview", "u-1", None),
        UUIDS[2]: ("$identify", "u-1", "a-1"),
        UUIDS[3]: ("$create_alias", "u-1", "a-2"),
    }
    assert found[UUIDS[0]][3]["revenue"] == 19.9
    assert happened([event for event in events if event.event_id in UUIDS], HAPPENED)
    others = {what[:3] for uuid, what in found.items() if uuid not in UUIDS}
    assert others == {
        ("$identify", "u-3", None),
        ("$create_alias", "u-3", "a-3"),
        ("$groupidentify", None, None),
    }


async def test_cloudevents_arrive_in_both_modes(ingest: Ingest, programs: Path) -> None:
    project = await ingest.project()

    await run(programs, "cloudevents.js", project, ingest.program.url)

    events = await project.arrived(2)
    assert len(events) == 3
    assert happened(events, HAPPENED)
    assert shown(events) == {
        f"/shop order-{n}": ("com.example.order.completed", "u-1", None, {"revenue": 19.9, "n": n}) for n in (1, 2)
    }

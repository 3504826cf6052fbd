"""Two processes of ingest behind one port, on real Kafka."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from services.ingest.http import EVENT_PATH
from shared.http import bound
from shared.kafka import Publisher
from shared.keys import describe_key, new_key
from shared.topics import KEYS
from tests.integration.test_ingest import JSON, Ingest, TopicTail, running_ingest
from tests.programs import Program
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")


@pytest_asyncio.fixture(scope="module")
async def pair(kafka: str) -> AsyncIterator[Ingest]:
    async with running_ingest(kafka, processes=2) as running:
        yield running


@pytest_asyncio.fixture
async def mortal(kafka: str) -> AsyncIterator[Ingest]:
    """A pair that ends with the test."""
    async with running_ingest(kafka, processes=2) as running:
        yield running


async def _send(ingest: Ingest, event_id: str) -> int | None:
    """On a connection of its own, so that the kernel chooses a process; None when that process goes away."""
    body = b'{"event_type":"user_action","event_id":"%s"}' % event_id.encode()
    headers = {**JSON, "X-API-Key": ingest.keys["ingest"]}
    try:
        async with httpx.AsyncClient(base_url=ingest.client.base_url) as client:
            return (await client.post(EVENT_PATH, content=body, headers=headers)).status_code
    except httpx.TransportError:
        return None


async def _accepted(ingest: Ingest) -> dict[str, float]:
    """By process, whichever process is asked."""
    async with httpx.AsyncClient(base_url=ingest.client.base_url) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    return {s.labels["process"]: s.value for s in families["tidegate_ingest_events_accepted"].samples}


def _workers(parent: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        found += map(int, task.read_text().split())
    return found


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def _both_listen(ingest: Ingest) -> None:
    async def shown() -> bool:
        try:
            return len(await _accepted(ingest)) == 2
        except httpx.TransportError:
            return False

    await eventually(shown, "both processes show their metrics")
    before = await _accepted(ingest)

    async def both_accept() -> bool:
        await _send(ingest, str(uuid.uuid4()))
        now = await _accepted(ingest)
        return all(now.get(process, 0) > count for process, count in before.items())

    await eventually(both_accept, "each process takes its share of the connections", every=0.01)


async def test_both_take_events_and_either_shows_what_all_have_accepted(pair: Ingest, kafka: str) -> None:
    await _both_listen(pair)
    before = sum((await _accepted(pair)).values())
    async with TopicTail.opened(kafka) as topic:
        ids = [str(uuid.uuid4()) for _ in range(60)]
        assert {await _send(pair, each) for each in ids} == {202}
        assert sorted(event.event_id for _, event in await topic.events()) == sorted(ids)
    for _ in range(4):
        assert sum((await _accepted(pair)).values()) == before + 60


async def test_a_keys_limit_holds_for_all_processes_together(pair: Ingest, kafka: str) -> None:
    await _both_listen(pair)
    key = new_key()
    publisher = Publisher(kafka)
    await publisher.start()
    limited = describe_key(key, organisation="acme", scope="ingest", events_per_second=0.01, burst=10)
    await publisher.publish(KEYS, limited)
    await publisher.stop()

    async def status() -> int:
        async with httpx.AsyncClient(base_url=pair.client.base_url) as client:
            headers = {**JSON, "X-API-Key": key}
            return (await client.post(EVENT_PATH, content=b'{"event_type":"a"}', headers=headers)).status_code

    statuses = Counter[int]()

    async def used_up() -> bool:  # at first one or the other does not know the key
        statuses.update([await status() for _ in range(10)])
        return statuses[429] > 40

    await eventually(used_up, "both processes refuse events", every=0.01)
    assert statuses[202] == 10


async def test_one_that_is_killed_is_started_again_and_the_other_goes_on(pair: Ingest, kafka: str) -> None:
    await _both_listen(pair)
    first = set(_workers(pair.process.pid))
    async with TopicTail.opened(kafka) as topic:
        acknowledged: set[str] = set()
        enough = False

        async def client() -> None:
            while not enough:
                event_id = str(uuid.uuid4())
                if await _send(pair, event_id) == 202:
                    acknowledged.add(event_id)

        async def more(count: int) -> None:
            goal = len(acknowledged) + count

            async def reached() -> bool:
                return len(acknowledged) >= goal

            await eventually(reached, f"{count} more events are acknowledged")

        clients = [asyncio.create_task(client()) for _ in range(4)]
        await more(30)
        os.kill(min(first), signal.SIGKILL)
        await more(30)
        await _both_listen(pair)
        await more(30)
        enough = True
        await asyncio.gather(*clients)

        second = set(_workers(pair.process.pid))
        assert len(second) == 2
        assert len(second & first) == 1
        assert acknowledged <= {event.event_id for _, event in await topic.events()}


async def test_sigterm_ends_all_and_frees_the_port(mortal: Ingest) -> None:
    workers = _workers(mortal.process.pid)
    assert len(workers) == 2
    mortal.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(mortal.process.wait(), 20) == 0
    assert not any(map(_is_running, workers))
    port = mortal.client.base_url.port
    assert port is not None
    bound("127.0.0.1", port, shared=False).close()


async def test_nobody_listens_on_behind_a_parent_that_was_killed(mortal: Ingest) -> None:
    workers = _workers(mortal.process.pid)
    assert len(workers) == 2
    mortal.process.kill()
    await mortal.process.wait()

    async def ended() -> bool:
        return not any(map(_is_running, workers))

    await eventually(ended, "the workers end by themselves")


async def test_workers_that_still_wait_for_kafka_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    env = {
        "TIDEGATE_KAFKA": "127.0.0.1:1",
        "TIDEGATE_POSTGRES": "postgresql://nobody@127.0.0.1:1/none",
        "TIDEGATE_PROCESSES": "2",
    }
    program = Program("services.ingest", log=tmp_path / "ingest.log", env=env)
    await program.start(wait_until_ready=False)

    async def both_wait() -> bool:
        return len(_workers(program.pid)) == 2 and program.log.read_text().count("waiting for Kafka") >= 2

    await eventually(both_wait, "both workers have started")
    workers = _workers(program.pid)
    await program.kill()

    async def ended() -> bool:
        return not any(map(_is_running, workers))

    try:
        await eventually(ended, "the workers end by themselves")
    finally:
        for worker in filter(_is_running, workers):
            os.kill(worker, signal.SIGKILL)


async def test_a_port_that_another_program_shares_is_refused(kafka: str) -> None:
    with bound("127.0.0.1", 0, shared=True) as stranger:
        stranger.listen()
        port = stranger.getsockname()[1]
        environment = {"TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": "postgresql://nobody@127.0.0.1:1/none"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.ingest"),
            env={**os.environ, **environment, "TIDEGATE_PORT": str(port), "TIDEGATE_PROCESSES": "2"},
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}".encode() in said

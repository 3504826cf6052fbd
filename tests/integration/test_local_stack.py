"""The embedded stack for real: Kafka, PostgreSQL, the gateway and a small service of the test's own."""

import asyncio
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from deploy.local.children import identify
from deploy.local.control import Ended, look, take_down
from deploy.local.ports import holder_of, is_free
from deploy.local.process import ProcessState
from deploy.local.services import Service
from deploy.local.stack import LocalStack, StackError
from deploy.local.state import AlreadyRunningError, StateDirectory
from shared.topics import EVENTS, TOPICS

INGEST = Service("ingest", (str(Path(__file__).with_name("fake_service.py")),))


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    async with LocalStack(tmp_path_factory.mktemp("stack") / "state", application=[INGEST]) as stack:
        yield stack


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


def pids(state: StateDirectory) -> dict[str, int]:
    return {status.name: status.pid for status in look(state) if status.pid is not None}


def everything_is_ready(state: StateDirectory) -> bool:
    return {status.state for status in look(state)} == {ProcessState.READY}


async def produce(bootstrap: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        await producer.send_and_wait(EVENTS.name, value, partition=0)


async def consume_all(bootstrap: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(EVENTS.name, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with consumer, asyncio.timeout(30):
        return [(await consumer.getone()).value for _ in range(count)]


async def execute(postgres: str, statement: str) -> int | None:
    connection = await asyncpg.connect(postgres, ssl=False)
    try:
        result: int | None = await connection.fetchval(statement)
    finally:
        await connection.close()
    return result


async def test_every_process_comes_back_after_kill_minus_nine_with_its_data_and_ports(stack: LocalStack) -> None:
    await execute(stack.postgres, "CREATE TABLE kept (n int)")
    await execute(stack.postgres, "INSERT INTO kept VALUES (42)")
    await produce(stack.kafka, b"kept")
    before = pids(stack.state)
    ports = {status.name: status.port for status in look(stack.state)}
    assert set(before) == {"kafka", "postgres", "gateway", "ingest"}

    for pid in before.values():
        os.kill(pid, signal.SIGKILL)

    await until(
        lambda: everything_is_ready(stack.state) and not set(pids(stack.state).values()) & set(before.values())
    )
    assert all(status.restarts > 0 for status in look(stack.state))
    assert {status.name: status.port for status in look(stack.state)} == ports
    assert await execute(stack.postgres, "SELECT n FROM kept") == 42
    assert await consume_all(stack.kafka, 1) == [b"kept"]


async def test_the_gateway_bridges_a_restart_and_hides_the_services_own_paths(stack: LocalStack) -> None:
    async with httpx.AsyncClient(base_url=stack.gateway, timeout=10) as client:
        os.kill(pids(stack.state)["ingest"], signal.SIGKILL)
        answer = await client.post("/api/v1/streaming-analytics/events", json={})
        assert (answer.status_code, answer.text) == (200, "fake POST /api/v1/streaming-analytics/events")

        for path in ("/metrics", "/healthz", "/readyz", "/nothing"):
            hidden = await client.get(path)
            assert hidden.status_code == 404
            assert hidden.headers["content-type"] == "application/problem+json"
            assert hidden.json()["reason"] == "unknown_path"

        down = await client.get("/api/v1/streaming-analytics/alerts")  # nobody runs alerting in this test
        assert down.status_code == 503
        assert down.headers["content-type"] == "application/problem+json"
        assert int(down.headers["retry-after"]) > 0


async def test_topics_keys_and_secrets_are_there_once_the_stack_is_ready(stack: LocalStack) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.kafka)
    async with consumer:
        assert {topic.name for topic in TOPICS} <= await consumer.topics()
    assert set(stack.keys) == {"admin", "ingest", "read"}
    assert len(set(stack.keys.values())) == 3
    for secret in (stack.state.keys_file, stack.state.password_file, stack.state.sealing_keys_file):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    with pytest.raises(asyncpg.InvalidPasswordError):
        await execute(stack.postgres.replace("tidegate:", "tidegate:not-"), "SELECT 1")


async def test_a_stop_leaves_no_process_and_no_port_and_the_next_start_keeps_everything(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with LocalStack(state, application=[INGEST]) as first:
        keys, url, ports = first.keys, first.gateway, {s.name: s.port for s in look(first.state)}
        running = list(pids(first.state).values())
        await produce(first.kafka, b"first")
    assert [pid for pid in running if identify(pid) is not None] == []
    assert [port for port in ports.values() if port is not None and not is_free(port)] == []

    async with LocalStack(state, application=[INGEST]) as second:
        assert (second.keys, second.gateway) == (keys, url)
        assert {s.name: s.port for s in look(second.state)} == ports
        await produce(second.kafka, b"second")
        assert await consume_all(second.kafka, 2) == [b"first", b"second"]


async def test_a_second_stack_on_the_same_state_is_refused_by_pid(stack: LocalStack) -> None:
    with pytest.raises(AlreadyRunningError, match=f"pid {os.getpid()}"):
        await LocalStack(stack.state.path, application=[INGEST]).start()
    assert everything_is_ready(stack.state)


async def test_a_taken_gateway_port_is_refused_by_its_holder_and_a_taken_inner_port_is_replaced(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen(1)
        taken = stranger.getsockname()[1]
        with pytest.raises(StackError, match=rf"port {taken} is already in use by .*tidegate up --port"):
            await LocalStack(state, port=taken, application=[INGEST]).start()
        assert holder_of(taken) is not None

        directory = StateDirectory(state)
        record = json.loads((state / "state.json").read_bytes())
        (state / "state.json").write_text(json.dumps({**record, "ports": {**record["ports"], "kafka": taken}}))
        async with LocalStack(state, processes="infrastructure") as stack:
            assert stack.port_of("kafka") != taken
            assert directory.read().ports["kafka"] == stack.port_of("kafka")


async def test_an_address_that_the_machine_lacks_is_refused_with_what_the_system_says(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"cannot listen on 192\.0\.2\.1, port 8080: Cannot assign"):
        await LocalStack(tmp_path, port=8080, host="192.0.2.1").start()


async def test_a_preparation_that_was_interrupted_is_done_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for half_done in ("postgres/data/base", "kafka/data"):
        (state / half_done).mkdir(parents=True)
    (state / "kafka" / "data" / "meta.properties").write_text("version=1\n")
    async with LocalStack(state, processes="infrastructure") as stack:
        assert await execute(stack.postgres, "SELECT 1") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
async def test_a_killed_supervisor_leaves_nothing_and_the_next_one_starts_and_is_taken_down(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    assert await take_down(state) is Ended.NOTHING_RUNNING

    killed = await start_in_another_process(state)
    children = list(pids(state).values())
    killed.kill()
    await killed.wait()
    await until(lambda: all(identify(pid) is None for pid in children), seconds=5)
    assert {status.state for status in look(state)} == {ProcessState.STOPPED}

    supervisor = await start_in_another_process(state)
    children = list(pids(state).values())
    assert len(children) == 2
    assert await take_down(state) is Ended.STOPPED
    assert [pid for pid in children if identify(pid) is not None] == []
    assert await supervisor.wait() == 0


async def start_in_another_process(state: StateDirectory) -> asyncio.subprocess.Process:
    source = f"""
import asyncio, signal
from pathlib import Path
from deploy.local.stack import LocalStack
async def main():
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with LocalStack(Path({str(state.path)!r}), processes="infrastructure"):
        await asyncio.Event().wait()
try:
    asyncio.run(main())
except asyncio.CancelledError:
    pass
"""
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", source)

    def is_ready() -> bool:
        record = state.read()
        ours = record.supervisor is not None and record.supervisor.pid == supervisor.pid
        return ours and record.phase is ProcessState.READY

    try:
        await until(lambda: supervisor.returncode is not None or is_ready(), seconds=60)
        assert supervisor.returncode is None
    except BaseException:
        with suppress(ProcessLookupError):
            supervisor.kill()
        await supervisor.wait()
        raise
    return supervisor

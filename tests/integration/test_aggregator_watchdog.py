"""A worker that stalls ends itself, loudly."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from services.aggregator.watchdog import STALLED
from tests.integration.aggregation import event, publish_events
from tests.programs import Program


@pytest.mark.parametrize(
    ("what", "said"),
    [("folder", "has 1 records to fold and has done nothing for 3 s"), ("loop", "has not run for 3 s")],
)
async def test_a_worker_that_stalls_says_what_stands_still_and_ends(
    kafka: str, postgres: str, tmp_path: Path, what: str, said: str
) -> None:
    env = {"TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": postgres}
    program = Program("tests.integration.stuck_worker", what, log=tmp_path / "worker.log", env=env)
    await program.start(wait_until_ready=False)
    if what == "folder":
        await publish_events(kafka, [event("stuck", "only")])
    assert await program.wait() == STALLED
    last = msgspec.json.decode(program.log.read_text().splitlines()[-1])
    assert last["level"] == "critical"
    assert said in last["stall"]
    assert any("stuck_worker" in frame for frame in last["threads"]["MainThread"])
    if what == "folder":
        assert any(frame for frames in last["shards"].values() for frame in frames)

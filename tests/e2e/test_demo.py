"""`tidegate demo` on a whole stack: what the platform counted equals the driver's own log."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from deploy.local.stack import LocalStack

_USERS = 80


@dataclass(frozen=True, slots=True)
class Finished:
    exit_code: int
    output: str
    figures: dict[str, Any]


@pytest_asyncio.fixture(scope="module")
async def finished(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One short demo against the running stack."""
    figures = tmp_path_factory.mktemp("demo") / "out.json"
    options = {"--seconds": "8", "--users": str(_USERS), "--seed": "5", "--json": str(figures)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tidegate", "demo", "--state", str(stack.state.path)),
        *(part for option in options.items() for part in option),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 150)
    assert process.returncode is not None
    return Finished(process.returncode, output.decode(), json.loads(_read(figures)))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else "{}"


async def test_a_demo_ends_with_success(finished: Finished) -> None:
    assert finished.exit_code == 0, finished.output
    assert "✗" not in finished.output
    assert "Every accepted event, every unit and every import is accounted for" in finished.output


async def test_every_accepted_event_was_counted_once_or_found_late(finished: Finished) -> None:
    events = finished.figures["events"]
    assert events["accepted"] == events["counted"] + events["late"] > 8 * _USERS
    assert events["duplicates_dropped"] == events["duplicates_sent"] > 0
    assert events["dead_lettered"] == events["malformed_sent"] > 0


async def test_every_variant_equals_its_truth(finished: Finished) -> None:
    variants = finished.figures["variants"]
    assert variants.keys() == {"realtime", "background"}
    for figures in variants.values():
        assert figures["truth"] == {name: figures[name] for name in ("units", "completed", "abandoned")}
        assert figures["units"] == figures["completed"] + figures["abandoned"]
    units = sum(figures["units"] for figures in variants.values())
    assert units > 0.5 * _USERS
    assert sum(figures["abandoned"] for figures in variants.values()) > 0


async def test_the_breaker_opened_and_closed_and_every_channel_was_told(finished: Finished) -> None:
    breaker, latency = finished.figures["breaker"], finished.figures["kill_latency_ms"]
    assert breaker["openings"] == breaker["closed"] >= 1
    assert 0 <= latency["p50"] <= latency["max"]
    for channel, messages in finished.figures["alerts"].items():
        assert messages >= 2 * breaker["openings"], channel
    assert "5000 ms (shipped: 60000 ms)" in " ".join(finished.output.split())
    assert "5 s (shipped: 1800 s)" in " ".join(finished.output.split())


async def test_a_finished_demo_leaves_no_channel_and_no_flag_that_is_off(
    finished: Finished, stack: LocalStack
) -> None:
    headers = {"Authorization": f"Bearer {stack.keys['admin']}"}
    assert finished.exit_code == 0
    async with aiohttp.ClientSession(headers=headers) as session:
        for kind in ("channels", "switches"):
            async with session.get(f"{stack.gateway}/api/v1/admin/{kind}") as response:
                assert response.status == 200
                assert not await response.json(), kind


async def test_the_figures_have_exactly_the_published_structure(finished: Finished) -> None:
    assert finished.figures.keys() == {"events", "variants", "breaker", "kill_latency_ms", "alerts"}
    assert finished.figures["breaker"].keys() == {"openings", "closed"}
    assert finished.figures["kill_latency_ms"].keys() == {"p50", "max"}
    assert finished.figures["alerts"].keys() == {"slack", "pagerduty", "email"}
    assert finished.figures["events"].keys() == {
        "accepted",
        "counted",
        "late",
        "duplicates_sent",
        "duplicates_dropped",
        "malformed_sent",
        "dead_lettered",
    }
    for figures in finished.figures["variants"].values():
        assert figures.keys() == {"units", "completed", "abandoned", "truth"}
        assert figures["truth"].keys() == {"units", "completed", "abandoned"}


async def test_the_output_says_where_to_go_on(finished: Finished, stack: LocalStack) -> None:
    assert f"{stack.gateway}/api/docs" in finished.output
    assert str(stack.state.keys_file) in finished.output
    assert "tidegate down" in finished.output


async def test_the_stack_that_was_there_before_goes_on_running(finished: Finished, stack: LocalStack) -> None:
    headers = {"Authorization": f"Bearer {stack.keys['read']}"}
    url = f"{stack.gateway}/api/v1/ab-testing/experiments"
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as response:
        assert response.status == 200
        assert "Import processing mode" in await response.text()

"""A whole run against a gateway in memory that loses requests and answers."""

from __future__ import annotations

from examples.imports.driver import RunSettings, Target, run
from examples.imports.progress import Phase, Progress
from tests.unit.imports.fake_gateway import FakeGateway, serving

_KEYS = {"admin": "a", "ingest": "i", "read": "r"}


def _troubled(number: int) -> str | None:
    if number % 37 == 0:
        return "before"
    return "after" if number % 41 == 0 else None


async def test_a_run_over_a_bad_network_ends_with_equal_figures(postgres: str) -> None:
    gateway, progress = FakeGateway(_troubled), Progress()
    async with serving(gateway) as url:
        result = await run(Target(url, postgres, _KEYS), RunSettings(seconds=3, users=80, seed=3), progress)
    comparison = result.comparison
    assert [line for line in comparison.lines if not line.agrees] == []
    assert result.complaints == {}
    assert (progress.phase, progress.done, progress.active) == (Phase.DONE, 80, 0)

    truth = comparison.truth
    assert truth.accepted == len(gateway.events) > 80 * 8
    assert truth.duplicates_sent >= gateway.duplicates > 0
    assert truth.malformed_sent == len(gateway.letters) > 0
    assert sum(v.units for v in truth.variants.values()) == len(gateway.units) > 60
    assert sum(v.abandoned for v in truth.variants.values()) > 0


async def test_events_that_the_platform_loses_are_found_out(postgres: str) -> None:
    gateway = FakeGateway()
    async with serving(gateway) as url:
        settings = RunSettings(seconds=3, users=10, seed=3, settle_seconds=2)
        target = Target(url, postgres, _KEYS)
        gateway.forget = lambda e: e.event_type == "data_import_completed" and (e.user_id or "").endswith("_3")
        result = await run(target, settings, Progress())
    lost, *variant = [line.what for line in result.comparison.differences]
    assert lost == "accepted = counted + late"
    assert [what.partition(": ")[2] for what in variant] == ["completed", "abandoned"]

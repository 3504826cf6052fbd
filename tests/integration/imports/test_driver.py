"""A whole run against a gateway in memory that loses requests and answers."""

from __future__ import annotations

from examples.imports.domain.events import IMPORT_STARTED
from examples.imports.driver import RunSettings, Target, run
from examples.imports.importer import READ_ONLY
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
    assert (progress.phase, progress.done, progress.active) == (Phase.DONE, progress.users, 0)
    assert progress.users >= 80  # some more came while the breaker waited for a probe

    truth = comparison.truth
    assert truth.accepted == len(gateway.events) > 80 * 8
    assert truth.duplicates_sent >= gateway.duplicates > 0
    letters = [{**letter, "id": ""} for letter in gateway.letters]
    different = [letter for i, letter in enumerate(letters) if letter not in letters[:i]]
    assert truth.malformed_sent == len(different) > 0  # what was sent again after a lost answer came twice
    assert sum(v.units for v in truth.variants.values()) == len(gateway.units) > 60
    assert sum(v.abandoned for v in truth.variants.values()) > 0


async def test_imports_fail_until_the_breaker_opens_and_it_closes_when_they_work_again(postgres: str) -> None:
    gateway = FakeGateway()
    async with serving(gateway) as url:
        result = await run(Target(url, postgres, _KEYS), RunSettings(seconds=4, users=100, seed=4), Progress())
        await gateway.guard.settled()
    valve, truth = result.comparison.valve, result.comparison.truth
    assert result.comparison.differences == ()
    assert result.complaints == {}
    assert valve.report.openings == valve.report.closings == valve.seen_openings == valve.seen_closings >= 1
    assert len(valve.kill_latencies_ms) == valve.report.openings
    assert max(valve.kill_latencies_ms) < 1_000
    assert truth.diverted > 0
    assert all(count >= 2 * valve.report.openings for count in valve.messages.values())
    assert {m.action for messages in result.last_messages.values() for m in messages} == {"trigger", "resolve"}

    failed = [e for e in gateway.events.values() if e.properties.get("errorCategories") == [READ_ONLY]]
    assert len(failed) >= 10
    diverted = {e.user_id for e in gateway.events.values() if e.event_type == "import_diverted"}
    assert len(diverted) == truth.diverted
    starts = {e.user_id for e in gateway.events.values() if e.event_type == IMPORT_STARTED}
    assert len(diverted - starts) == truth.turned_away


async def test_a_breaker_that_does_not_close_is_found_out(postgres: str) -> None:
    gateway = FakeGateway()
    gateway.guard.stuck = True
    async with serving(gateway) as url:
        settings = RunSettings(seconds=3, users=60, seed=3, settle_seconds=2, closes_within=0.5)
        result = await run(Target(url, postgres, _KEYS), settings, Progress())
    assert "breaker: in the end" in [line.what for line in result.comparison.differences]
    assert any("did not close" in text for text in result.complaints)


async def test_events_that_the_platform_loses_are_found_out(postgres: str) -> None:
    gateway = FakeGateway()
    async with serving(gateway) as url:
        settings = RunSettings(seconds=3, users=10, seed=3, settle_seconds=2)
        target = Target(url, postgres, _KEYS)
        gateway.forget = lambda e: e.event_type == "data_import_completed" and (e.user_id or "").endswith("_3")
        result = await run(target, settings, Progress())
    lost, *variant = [line.what for line in result.comparison.differences]
    assert lost == "accepted = counted + late"
    *found, how = [what.partition(": ")[2] for what in variant]
    assert found == ["completed", "abandoned", "journeys, completed"]
    # Whether the user left before the import was done is a matter of the machine.
    assert how in ("journeys, abandoned after navigating away", "journeys, abandoned by timeout")

"""Everything goes wrong, under load, through public interfaces: what can be read in the end is the truth, exactly."""

from __future__ import annotations

from shared.clock import system_clock
from tests.faults.generator import Generator
from tests.faults.progress import Progress
from tests.faults.run import Run
from tests.faults.schedule import schedule
from tests.faults.settings import FaultSettings
from tests.faults.site import Site
from tests.integration.aggregation import publish_raw


async def test_every_total_unit_sum_journey_and_streak_is_exact_whatever_fails(
    site: Site, fault_settings: FaultSettings, progress: Progress
) -> None:
    generator = Generator("faults", fault_settings.seed, system_clock())
    run = Run(site, generator, progress)
    await run.define()
    await run.assign(20)
    records = generator.records()
    before = (await site.reader.pipeline()).dead_letters
    await publish_raw(site.stack.kafka, records)
    severity = fault_settings.severity
    await run.suffer(schedule(site, severity, fault_settings.seed), fault_settings.events)
    await run.finish()
    await run.expect_truth()
    assert site.crashes() == []
    assert run.resent >= generator.drawn // 10
    assert (await site.reader.pipeline()).dead_letters == before + len(records)
    assert len(site.proxy.made) >= severity.commit_cuts

"""Kafka is gone while clients go on sending: each is told to come again, in bounded memory, and soon it works."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.broker_loss import Outage, lose_broker
from tests.faults.progress import Progress
from tests.faults.settings import FaultSettings

MOST_GROWTH = 100 * 1024 * 1024
DEADLINE = 10.0
"""Seconds that what was on its way waits for Kafka; only then it comes again."""
SOON = 5.0
"""Seconds from the first record that Kafka takes of anybody to the first event that we take."""

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")


async def test_while_kafka_is_gone_all_are_told_to_come_again_and_what_was_acknowledged_is_there(
    tmp_path: Path, fault_settings: FaultSettings, progress: Progress
) -> None:
    outage = Outage(fault_settings.severity.kafka_away, before=3.0, after=1.0)
    figures = await lose_broker(outage, tmp_path, progress)
    progress.say(
        f"{figures.requests:,} requests in {figures.seconds:g} s without Kafka; memory grew by "
        f"{(figures.memory_most - figures.memory_before) / 1e6:.1f} MB"
    )
    answers = {tuple(status.split()[1:2]) for status in figures.statuses}
    assert answers <= {("202",), ("ack",), ("503",), ("1013",)}, figures.statuses
    assert figures.statuses_meanwhile["single 503 overloaded"] > 0
    if outage.seconds > DEADLINE:
        assert figures.statuses_meanwhile["socket 503 overloaded"] > 0
        assert figures.statuses_meanwhile["upload 503 overloaded"] > 0
    assert figures.without_retry_after == 0
    assert len(figures.waits) > 1, "all were told to come again at the same time"
    assert figures.memory_most - figures.memory_before < MOST_GROWTH
    assert figures.from_first_record < SOON
    assert figures.missing == 0
    assert figures.acknowledged > 0
    assert figures.restarts == 0

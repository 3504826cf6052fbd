"""Ingest is killed again and again while clients send: what it acknowledged counts once, and nothing counts twice.

Most clients send again until they are acknowledged. The impatient ones send each event once, whatever they hear: of
what was not acknowledged Kafka may have some, but none twice.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.faults.clients import BATCHES, Clients, Heard, Load, Target, weight_of
from tests.faults.faults import Death
from tests.faults.progress import Progress
from tests.faults.run import wait_until_folded
from tests.faults.settings import FaultSettings
from tests.faults.site import Site
from tests.faults.wire import Wire
from tests.waiting import eventually

PATIENT, IMPATIENT = "kills_patient", "kills_impatient"
_LOAD = Load(singles=20, batches=10, batch=50, pause=0.01, uploads=1, lines=3_000, sockets=2)
_IMPATIENT_CLIENTS = 4
_IMPATIENT_BATCH = 3
_BETWEEN = 1_000
"""Events acknowledged from one kill to the next, at least."""
_LONGEST_PAUSE = 0.5
"""Seconds from then to the kill: each falls into another moment of what is under way."""
_MOST_NAMES = 10_000
_METRICS: dict[str, dict[str, Any]] = {
    PATIENT: {
        "type": "value",
        "event": PATIENT,
        "value": "properties.weight",
        "aggregations": ["count", "sum"],
    },
    IMPATIENT: {
        "type": "count",
        "event": IMPATIENT,
        "group_by": ["properties.name"],
        "max_groups": _MOST_NAMES,
    },
}


@dataclass(slots=True)
class Impatient:
    """Sends small batches, each once."""

    target: Target
    acknowledged: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    """Sent, and not acknowledged."""

    async def run(self, who: int, stopping: asyncio.Event) -> None:
        number = 0
        while not stopping.is_set():
            ids = [f"{IMPATIENT}-{who}-{number}-{n}" for n in range(_IMPATIENT_BATCH)]
            number += 1
            await self._send(ids)
            await asyncio.sleep(0.1)

    async def _send(self, ids: list[str]) -> None:
        try:
            wire = await Wire.opened(self.target.port())
        except OSError:
            return  # nothing was sent
        (self.acknowledged if await self._is_taken(wire, ids) else self.unsure).update(ids)

    async def _is_taken(self, wire: Wire, ids: list[str]) -> bool:
        try:
            answer = await wire.post(
                BATCHES, self.target.key, orjson.dumps({"events": [self._event(i) for i in ids]})
            )
        except (OSError, EOFError):
            return False
        finally:
            wire.close()
        assert answer.status in (202, 503), answer
        return answer.status == 202

    def _event(self, event_id: str) -> dict[str, Any]:
        event = self.target.event(event_id)
        event["event_data"]["name"] = event_id
        return event


async def test_every_acknowledged_event_counts_once_and_no_other_twice_however_often_ingest_is_killed(
    site: Site, fault_settings: FaultSettings, progress: Progress
) -> None:
    for key, spec in _METRICS.items():
        await site.client.ask("PUT", f"/api/v1/admin/metrics/{key}", spec)
    heard = Heard(asyncio.get_running_loop().time)
    key, ingest = site.stack.keys["ingest"], site.victim("ingest")
    port = site.stack.port_of("ingest")
    clients = Clients(Target(lambda: port, key, PATIENT), _LOAD, heard)
    impatient = Impatient(Target(lambda: port, key, IMPATIENT))
    stopping, moments = asyncio.Event(), random.Random(fault_settings.seed)
    async with asyncio.TaskGroup() as sending:
        sending.create_task(clients.run())
        for who in range(_IMPATIENT_CLIENTS):
            sending.create_task(impatient.run(who, stopping))
        for number in range(fault_settings.severity.ingest_kills):
            goal = len(heard.acknowledged) + _BETWEEN

            async def reached(goal: int = goal) -> bool:
                return len(heard.acknowledged) >= goal

            await eventually(reached, "events are acknowledged", seconds=60)
            await asyncio.sleep(moments.uniform(0, _LONGEST_PAUSE))
            death = Death(ingest)
            await death.start()
            await death.stop()
            progress.say(f"kill -9 of ingest {number + 1}: {len(heard.acknowledged):,} events acknowledged so far")
        stopping.set()
        clients.stop()
    await wait_until_folded(site)
    broken = sum(n for status, n in heard.statuses.items() if status.endswith("broken"))
    assert broken >= fault_settings.severity.ingest_kills
    assert all(s.split()[1] in ("202", "ack", "503", "broken", "1001", "1013") for s in heard.statuses), (
        heard.statuses
    )

    totals = (await site.reader.totals(PATIENT))["value"]
    (found,) = (await site.reader.windows(PATIENT, "total")).values()
    weights = sum(map(weight_of, heard.acknowledged))
    assert (found["count"], found["sum"]) == (len(heard.acknowledged), weights)

    groups = await site.reader.windows(IMPATIENT, "total")
    counts = {group[0]: values["count"] for (_, group), values in groups.items()}
    assert set(counts.values()) <= {1}, "an event that was sent once was counted more than once"
    assert impatient.acknowledged <= counts.keys() <= impatient.acknowledged | impatient.unsure
    kept = len(counts.keys() - impatient.acknowledged)
    progress.say(
        f"{len(heard.acknowledged):,} events of patient clients count once, {totals['duplicates']:,} came again; "
        f"{len(impatient.acknowledged):,} of impatient ones too, and {kept} of {len(impatient.unsure)} that were not "
        f"acknowledged; {broken} broken connections"
    )
    assert site.crashes() == []

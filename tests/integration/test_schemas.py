"""Schemas on real Kafka and Postgres: applied, judged by while Postgres is away, and what they kept away replayed."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from services.ingest.background import start_backends
from services.ingest.domain.quality.aside import Aside, SetAside
from services.ingest.http import DEAD_LETTER_PATH, EVENT_PATH
from services.ingest.quality.inspections import Inspections
from services.ingest.quality.schema_api import ADMIN_PREFIX, HISTORY_PREFIX
from services.ingest.quality.schema_service import start_schemas
from shared.clock import system_clock
from shared.messages import Event
from shared.settings import Settings
from tests.integration.sources.world import Ingest, ingest, publish_keys, stored
from tests.waiting import eventually

NO_POSTGRES = "postgresql://nobody@127.0.0.1:9/none"
MISMATCH = 'event_data: "n" is a required property (schema version 1)'


async def put(service: Ingest, event_type: str, mode: str) -> dict[str, Any]:
    spec = {"mode": mode, "versions": [{"version": 1, "schema": {"required": ["n"]}}]}
    answer = await service.admin.put(f"{ADMIN_PREFIX}/{event_type}", json=spec)
    assert answer.status_code in (200, 201), answer.text
    return dict(answer.json())


async def send(service: Ingest, event_type: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    answer = await service.ingest.post(EVENT_PATH, json={"event_type": event_type, **fields})
    return answer.status_code, dict(answer.json())


async def test_events_are_judged_in_every_mode_and_a_quarantined_one_is_replayed(
    kafka: str, postgres: str, tmp_path: Path
) -> None:
    await publish_keys(kafka)
    async with ingest(kafka, postgres, tmp_path) as service, stored(kafka) as log:
        for mode in ("warn", "quarantine", "reject"):
            assert (await put(service, f"schema-{mode}", mode))["status"] == "created"
        assert (await put(service, "schema-reject", "reject"))["status"] == "unchanged"

        async def in_force() -> bool:
            return (await send(service, "schema-reject"))[0] == 422

        await eventually(in_force, "the schemas are in force")
        warned = await send(service, "schema-warn", event_id="warned")
        quarantined = await send(service, "schema-quarantine", event_id="kept")
        assert warned == (202, {"event_id": "warned", "status": "accepted", "warning": MISMATCH})
        verdict = {"event_id": "kept", "status": "quarantined", "reason": "schema_mismatch", "detail": MISMATCH}
        assert quarantined == (202, verdict)

        async def events() -> dict[str, Any]:
            found = await log.events(1)
            return {e.event_id: e for e in found if e.event_type.startswith("schema-")}

        assert (await events())["warned"].context["schemaWarning"] == MISMATCH
        assert set(await events()) == {"warned"}

        found = await service.read.get(DEAD_LETTER_PATH, params={"event_type": "schema-quarantine"})
        (letter,) = found.json()["items"]
        path = f"{DEAD_LETTER_PATH}/{letter['id']}/replay"
        still = await service.admin.post(path, json={"patch": {"event_data": {"m": 1}}})
        fits = await service.admin.post(path, json={"patch": {"event_data": {"n": 1}}})
        assert (still.status_code, still.json()["reason"]) == (422, "schema_mismatch")
        assert (fits.status_code, fits.json()["event_id"]) == (202, "kept")
        assert (await events())["kept"].properties == {"n": 1}

        await service.admin.delete(f"{ADMIN_PREFIX}/schema-reject")
        await put(service, "schema-reject", "quarantine")
        history = (await service.admin.get(f"{HISTORY_PREFIX}/schema-reject")).json()["history"]
        assert [(past["version"], past["spec"] and past["spec"]["mode"]) for past in history] == [
            (3, "quarantine"),
            (2, None),
            (1, "reject"),
        ]

    async with AsyncExitStack() as resources:
        settings = Settings.from_environment({"TIDEGATE_KAFKA": kafka, "TIDEGATE_POSTGRES": NO_POSTGRES})
        inspections = Inspections()
        await start_schemas(await start_backends(settings, resources), inspections, system_clock, resources)
        inspection = inspections.of("acme")
        assert inspection is not None
        late = Event(organisation="acme", event_id="late", event_type="schema-reject", time=1, received_at=1)
        assert inspection.judge(late, 1) == SetAside(Aside.SCHEMA_MISMATCH, MISMATCH, "late")

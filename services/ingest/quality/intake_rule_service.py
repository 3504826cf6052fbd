"""Intake rules within the ingest service."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack

from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from services.ingest.background import Backends, run_in_background
from services.ingest.domain.quality.intake_rule import parse_intake_rule
from services.ingest.kept_definitions import KeptDefinitions, SignallingCopy
from services.ingest.quality.hash_key_log import HashKeyLog
from services.ingest.quality.inspections import Inspections
from services.ingest.quality.intake_rule_api import intake_rule_routes
from services.ingest.quality.intake_rules import IntakeRules
from services.ingest.quality.telemetry import RedactionMetrics
from services.ingest.sources.following import follow
from shared.clock import Clock
from shared.kafka import Replica
from shared.messages import IntakeRule
from shared.sealing import sealer_of
from shared.settings import Settings
from shared.topics import HASH_KEYS, INTAKE_RULES


async def start_intake_rules(
    settings: Settings,
    backends: Backends,
    inspections: Inspections,
    registry: CollectorRegistry,
    clock: Clock,
    resources: AsyncExitStack,
) -> APIRouter:
    """Returns when all rules are in force that were published before; Postgres may be away.

    `resources` stops it. Raises SettingsError.
    """
    rules = IntakeRules(inspections)
    registry.register(RedactionMetrics(rules.done))
    keys = HashKeyLog(
        backends.publisher,
        sealer_of(settings.sealing_keys),
        clock,
        new_id=lambda: uuid.uuid4().hex,
        wanted=rules.rotations,
        on_forgotten=rules.renew,
    )
    rules.hash_with(keys)
    keys_known = asyncio.Event()
    run_in_background(
        follow(lambda: SignallingCopy(Replica(backends.kafka, HASH_KEYS, keys.learn), keys_known)),
        "copy of keys that hash",
        resources,
    )
    kept: KeptDefinitions[IntakeRule] = KeptDefinitions(
        backends.pool,
        backends.publisher,
        backends.kafka,
        topic=INTAKE_RULES,
        table="ingest.intake_rules",
        check=parse_intake_rule,
        learn=rules.learn,
    )
    run_in_background(kept.run(), "intake rules", resources)
    await keys_known.wait()
    await kept.caught_up()
    run_in_background(keys.run(), "keys that hash", resources)
    return intake_rule_routes(kept, keys, inspections.of, rules.alone, clock)

"""Definitions that are put while Postgres has not been given back what copies know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from services.ingest import kept_definitions
from services.ingest.kept_definitions import KeptDefinitions
from shared.definitions import Outcome, Stored
from shared.messages import IntakeRule
from shared.topics import INTAKE_RULES


class EmptyStore:
    """A Postgres that was made anew, and takes long to be restored."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.rows: dict[str, Stored] = {}

    async def restore(self, *_: Any) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """It has not been started."""

    async def get(self, organisation: str, key: str) -> Stored | None:
        return self.rows.get(key)

    async def put(
        self, organisation: str, key: str, spec: Mapping[str, Any], *, floor: int = 0
    ) -> tuple[Outcome, int]:
        present = self.rows.get(key)
        version = max(floor, 0 if present is None else present.version) + 1
        self.rows[key] = Stored(organisation, key, version, spec)
        return (Outcome.CREATED if present is None else Outcome.CHANGED), version


class Copy:
    """Holds one rule, in its seventh version."""

    failure = None

    def __init__(self, kafka: str, topic: Any, heard: Callable[[IntakeRule], None]) -> None:
        self._heard = heard

    async def start(self) -> None:
        self._heard(IntakeRule(organisation="acme", key="mail", version=7, spec={"drop": ["user_id"]}))

    async def stop(self) -> None:
        """There is nothing to stop."""


async def test_what_is_put_before_postgres_is_restored_is_newer_than_what_copies_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept_definitions, "DefinitionStore", EmptyStore)
    monkeypatch.setattr(kept_definitions, "Replica", Copy)
    kept: KeptDefinitions[IntakeRule] = KeptDefinitions(
        cast(Any, None),
        cast(Any, None),
        "kafka",
        topic=INTAKE_RULES,
        table="rules",
        check=lambda key, spec: None,
        learn=lambda *_: None,
    )
    running = asyncio.create_task(kept.run())
    try:
        await kept.caught_up()

        assert await kept.put("acme", "mail", {"drop": ["job_id"]}) == (Outcome.CREATED, 8)
        assert await kept.remove("acme", "mail")
        assert await kept.put("acme", "other", {"drop": ["job_id"]}) == (Outcome.CREATED, 1)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

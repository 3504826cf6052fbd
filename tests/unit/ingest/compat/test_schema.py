"""The documentation names what other products' clients use, and nothing that is not there."""

from __future__ import annotations

from typing import Any

import pytest

from services.ingest.api import ingest_api
from services.ingest.compat.paths import COMPATIBLE_PATHS
from tests.unit.ingest.compat.service import KEY, Service

SCHEMA: dict[str, Any] = ingest_api().openapi()
DESCRIBED = {path: operations["post"] for path, operations in SCHEMA["paths"].items() if path in COMPATIBLE_PATHS}
BODIES: dict[str, Any] = {
    "segment": {"type": "track", "event": "e", "userId": "u", "batch": []},
    "posthog": {"event": "e", "distinct_id": "u", "batch": []},
    "cloudevents": {"specversion": "1.0", "id": "1", "source": "s", "type": "t"},
}


def test_all_three_products_are_described() -> None:
    assert {operation["tags"][0] for operation in DESCRIBED.values()} == BODIES.keys()
    assert len(DESCRIBED) == 11


@pytest.mark.parametrize("path", DESCRIBED)
async def test_what_is_described_answers_as_described(service: Service, path: str) -> None:
    operation = DESCRIBED[path]
    body = BODIES[operation["tags"][0]]
    headers = {"Content-Type": next(iter(operation["requestBody"]["content"])), "X-API-Key": KEY}

    answers = [await service.send(path, body, headers), await service.send(path, b"{", headers)]

    described = operation["responses"]
    assert [str(answer.status_code) for answer in answers] == [next(iter(described)), "400"]
    assert answers[0].headers["content-type"] in described[str(answers[0].status_code)]["content"]
    assert answers[1].headers["content-type"] in described["400"]["content"]

"""Samples of how busy a machine or service is."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from services.ingest.domain.kinds.family import Demand, Family, Name

Utilization = Annotated[float, Meta(ge=0, le=1, description="Of what there is: 0.7 is 70 %")]


class ResourceSample(msgspec.Struct, kw_only=True):
    """What is not measured is left out."""

    cpu: Utilization | None = None
    memory: Utilization | None = None
    storage: Utilization | None = None
    host: Name | None = None
    service: Name | None = None


RESOURCE_SAMPLES = Family(
    "resource-samples",
    "Samples of resources",
    {"resource_sample": Demand(ResourceSample, marks=("cpu", "memory", "storage"))},
)

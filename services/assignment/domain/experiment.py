"""What an experiment is, as assignment keeps it and as it is published."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from services.assignment.domain.lifecycle import Status
from shared import messages

MAX_VARIANTS = 20
MAX_STRATA = 20
MAX_SPLITS = 200
"""Distinct splits over an experiment's life; each makes the published definition longer."""

VariantType = Literal["control", "treatment"]
Shares = Mapping[str, int]
"""Variant name (or type, where only one variant has it) → buckets out of 1,000,000."""


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    type: VariantType
    buckets: int
    model_id: int | None = None
    model_version: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    id: int | None = None
    """Given by the store."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Holds up to `below` (exclusive) or `up_to` (inclusive); the last has neither. No shares: the variants' own."""

    name: str
    below: float | None = None
    up_to: float | None = None
    shares: Shares | None = None

    @property
    def bound(self) -> float | None:
        """As one exclusive bound: no double lies between `up_to` and its successor."""
        return math.nextafter(self.up_to, math.inf) if self.up_to is not None else self.below


@dataclass(frozen=True, slots=True)
class Definition:
    organisation: str
    key: str
    name: str
    salt: str
    description: str = ""
    unit: messages.UnitKind = "user"
    metrics: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    """Paths into an exposure, by whose values results can be cut."""
    plan: Shares | None = None
    """The split that was announced at creation (`traffic_split`), which the variants must keep to."""
    stratify_by: str | None = None
    strata: tuple[Stratum, ...] = ()
    variants: tuple[Variant, ...] = ()
    status: Status = Status.DRAFT
    allocations: tuple[messages.Allocation, ...] = ()
    """The distinct splits since the first start, the present one last; empty in a draft."""
    id: int | None = None
    version: int = 0
    created_at: int = 0
    updated_at: int = 0
    started_at: int | None = None
    ended_at: int | None = None


def slug(name: str) -> str:
    """A key from a name: `Model Version Comparison` → `model-version-comparison`; never empty, never only digits."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    text = re.sub(r"[^a-z0-9_]+", "-", ascii_name).strip("-")[:90]
    if not text:
        return "experiment"
    return f"experiment-{text}" if text.isdigit() else text


def to_message(definition: Definition) -> messages.Experiment:
    """As other services see it. Raises ValueError for a definition that was never stored."""
    if definition.id is None or any(v.id is None for v in definition.variants):
        raise ValueError("only what is stored can be published")
    present = definition.allocations[-1] if definition.allocations else None
    return messages.Experiment(
        organisation=definition.organisation,
        id=definition.id,
        key=definition.key,
        name=definition.name,
        version=definition.version,
        status=definition.status.value,
        unit=definition.unit,
        salt=definition.salt,
        variants=tuple(
            messages.Variant(
                id=v.id or 0,
                name=v.name,
                type=v.type,
                buckets=v.buckets,
                model_id=v.model_id,
                model_version=v.model_version,
                config=dict(v.config),
            )
            for v in definition.variants
        ),
        metrics=definition.metrics,
        segments=definition.segments,
        stratify_by=definition.stratify_by,
        strata=present.strata if present else (),
        earlier=definition.allocations[:-1],
        started_at=definition.started_at,
        ended_at=definition.ended_at,
    )

"""Bodies of the REST interface, S2's names and ours, and their way to domain values and back."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from services.assignment.domain.allocation import buckets_of, percentage_of
from services.assignment.domain.changes import Patch
from services.assignment.domain.experiment import Definition, Stratum, Variant, slug
from services.assignment.domain.lifecycle import Status
from shared.clock import to_iso
from shared.settings import MAX_EVENTS_PER_SECOND, MIN_EVENTS_PER_SECOND

MAX_INT8 = 2**63 - 1
MAX_BURST = 1_000_000_000
_MAX_OBJECT = 16 * 1024


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("must be a number")
    return value


def _exact(percentage: Decimal) -> Decimal:
    if buckets_of(percentage) is None:
        raise ValueError("may have at most four decimals: a bucket is 0.0001 %")
    return percentage


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if len(orjson.dumps(value)) > _MAX_OBJECT:
        raise ValueError(f"may have at most {_MAX_OBJECT} bytes as JSON")
    return value


def _decimal_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _no_number(key: str) -> str:
    if key.isdigit():
        raise ValueError("must hold more than digits: bare numbers are ids")
    return key


Percentage = Annotated[
    Decimal,
    BeforeValidator(_number),
    Field(ge=0, le=100, json_schema_extra={"type": "number"}),
    AfterValidator(_exact),
]
Number = Annotated[float, BeforeValidator(_number)]
Name = Annotated[str, Field(strict=True, min_length=1, max_length=200)]
Id = Annotated[Name, BeforeValidator(_decimal_text, json_schema_input_type=int | str)]
Reference = Id
"""An experiment's id or key."""
Text = Annotated[str, Field(strict=True, max_length=10_000)]
Key = Annotated[
    str,
    Field(strict=True, max_length=100, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"),
    AfterValidator(_no_number),
]
Object = Annotated[dict[str, Any], AfterValidator(_small)]
Unit = Annotated[Literal["user", "session", "job"], BeforeValidator(_lower)]
StatusName = Annotated[
    Literal["draft", "running", "paused", "completed", "archived", "cancelled", "failed"], BeforeValidator(_lower)
]
TrafficSplit = Annotated[dict[Name, Percentage], Field(max_length=20)]
Metrics = Annotated[list[Name], Field(max_length=50)]
Segment = Annotated[
    str,
    Field(
        strict=True,
        max_length=200,
        pattern=r"^(event_type|event_id|user_id|anonymous_id|session_id|job_id|data_source_id"
        r"|(properties|context)(\.[^.]+)+)$",
        examples=["context.networkType"],
    ),
]
Segments = Annotated[list[Segment], Field(max_length=5)]
"""Paths into exposures: results can be cut by their values."""


class Body(BaseModel):
    """A misspelt field is an error, not a surprise."""

    model_config = ConfigDict(extra="forbid")


class StratumBody(Body):
    """Holds numbers `below` a bound or `up_to` and including one; the last stratum has neither."""

    name: Name
    below: Number | None = None
    up_to: Number | None = None
    traffic_split: TrafficSplit | None = None

    def to_domain(self) -> Stratum:
        return Stratum(self.name, self.below, self.up_to, shares_of(self.traffic_split))


class VariantBody(Body):
    """In configuration `name` and `type` will do."""

    variant_name: Annotated[Name, Field(validation_alias=AliasChoices("variant_name", "name"))]
    variant_type: Annotated[
        Literal["control", "treatment"],
        BeforeValidator(_lower),
        Field(validation_alias=AliasChoices("variant_type", "type")),
    ] = "treatment"
    model_id: Annotated[int, Field(strict=True, ge=-MAX_INT8 - 1, le=MAX_INT8)] | None = None
    model_version: Annotated[str, Field(strict=True, max_length=200)] | None = None
    traffic_percentage: Percentage | None = None
    config: Object = Field(default_factory=dict)
    metadata: Object = Field(default_factory=dict)

    def to_domain(self) -> Variant:
        return Variant(
            name=self.variant_name,
            type=self.variant_type,
            buckets=_buckets(self.traffic_percentage or Decimal(0)),
            model_id=self.model_id,
            model_version=self.model_version,
            config=self.config,
            metadata=self.metadata,
        )


def _distinct_and_complete(variants: list[VariantBody]) -> list[VariantBody]:
    if len({v.variant_name.casefold() for v in variants}) < len(variants):
        raise ValueError("variants need different names")
    if any(v.traffic_percentage is None for v in variants):
        raise ValueError("every variant needs its traffic_percentage")
    return variants


class CreateExperiment(Body):
    experiment_name: Name
    description: Text = ""
    traffic_split: TrafficSplit | None = None
    key: Key | None = None
    unit: Unit = "user"
    metrics: Metrics = []
    segments: Segments = []
    salt: Name | None = None
    stratify_by: Name | None = None
    strata: list[StratumBody] = []

    def to_domain(self, organisation: str) -> Definition:
        key = self.key or slug(self.experiment_name)
        return Definition(
            organisation=organisation,
            key=key,
            name=self.experiment_name,
            salt=self.salt or key,
            description=self.description,
            unit=self.unit,
            metrics=tuple(self.metrics),
            segments=tuple(dict.fromkeys(self.segments)),
            plan=shares_of(self.traffic_split),
            stratify_by=self.stratify_by,
            strata=tuple(s.to_domain() for s in self.strata),
        )


class PatchExperiment(Body):
    """Fields that are missing or null stay as they are; an empty `strata` ends stratification."""

    experiment_name: Name | None = None
    description: Text | None = None
    traffic_split: TrafficSplit | None = None
    unit: Unit | None = None
    metrics: Metrics | None = None
    segments: Segments | None = None
    stratify_by: Name | None = None
    strata: list[StratumBody] | None = None

    def to_domain(self) -> Patch:
        return Patch(
            name=self.experiment_name,
            description=self.description,
            unit=self.unit,
            metrics=None if self.metrics is None else tuple(self.metrics),
            segments=None if self.segments is None else tuple(dict.fromkeys(self.segments)),
            plan=shares_of(self.traffic_split),
            stratify_by=self.stratify_by,
            strata=None if self.strata is None else tuple(s.to_domain() for s in self.strata),
        )


class ExperimentSpec(Body):
    """A whole experiment as configuration; `status: running` starts or resumes it."""

    name: Annotated[Name | None, Field(validation_alias=AliasChoices("name", "experiment_name"))] = None
    description: Text = ""
    unit: Unit = "user"
    metrics: Metrics = []
    segments: Segments = []
    salt: Name | None = None
    variants: Annotated[list[VariantBody], Field(max_length=20), AfterValidator(_distinct_and_complete)]
    stratify_by: Name | None = None
    strata: list[StratumBody] = []
    status: Annotated[Literal["running"], BeforeValidator(_lower)] | None = None

    def to_domain(self, organisation: str, key: str) -> Definition:
        return Definition(
            organisation=organisation,
            key=key,
            name=self.name or key,
            salt=self.salt or key,
            description=self.description,
            unit=self.unit,
            metrics=tuple(self.metrics),
            segments=tuple(dict.fromkeys(self.segments)),
            stratify_by=self.stratify_by,
            strata=tuple(s.to_domain() for s in self.strata),
            variants=tuple(v.to_domain() for v in self.variants),
        )


class RecordResult(Body):
    """A measured outcome: variant by id or name, unit by any of its ids. Without a unit only the event counts."""

    experiment_id: Reference
    variant_id: Annotated[int, Field(strict=True)] | None = None
    variant_name: Name | None = None
    metric_name: Name
    metric_value: Annotated[float, BeforeValidator(_number), Field(ge=-1e11, le=1e11)]
    metadata: Object = Field(default_factory=dict)
    event_id: Name | None = None
    user_id: Id | None = None
    anonymous_id: Id | None = None
    session_id: Id | None = None
    job_id: Id | None = None


class KeyRateLimit(Body):
    """Of the events that may be sent with a key."""

    events_per_second: Annotated[
        Number, Field(ge=MIN_EVENTS_PER_SECOND, le=MAX_EVENTS_PER_SECOND, description="in the long run")
    ]
    burst: Annotated[
        int | None,
        Field(strict=True, ge=1, le=MAX_BURST, description="at once after a pause; by default those of a second"),
    ] = None


class CreateKey(Body):
    scope: Annotated[Literal["ingest", "read", "admin"], BeforeValidator(_lower)]
    organisation: Name | None = None
    label: Annotated[str, Field(strict=True, max_length=200)] = ""
    rate_limit: KeyRateLimit | None = None


def shares_of(split: Mapping[str, Decimal] | None) -> dict[str, int] | None:
    """Percentages as buckets."""
    return None if split is None else {name: _buckets(share) for name, share in split.items()}


def experiment_body(d: Definition) -> dict[str, Any]:
    """An experiment as the REST interface shows it."""
    return {
        "id": d.id,
        "key": d.key,
        "experiment_name": d.name,
        "description": d.description,
        "status": d.status.value,
        "traffic_split": _percentages(d.plan) or {v.name: percentage_of(v.buckets) for v in d.variants},
        "unit": d.unit,
        "metrics": list(d.metrics),
        "segments": list(d.segments),
        "salt": d.salt,
        "stratify_by": d.stratify_by,
        "strata": [
            {"name": s.name, "below": s.below, "up_to": s.up_to, "traffic_split": _percentages(s.shares)}
            for s in d.strata
        ],
        "variants": [stored_variant_body(d, v) for v in d.variants],
        "version": d.version,
        "created_at": to_iso(d.created_at),
        "updated_at": to_iso(d.updated_at),
        "started_at": _iso(d.started_at),
        "ended_at": _iso(d.ended_at),
    }


def stored_variant_body(d: Definition, v: Variant) -> dict[str, Any]:
    return {
        "id": v.id,
        "experiment_id": d.id,
        "variant_name": v.name,
        "variant_type": v.type,
        "model_id": v.model_id,
        "model_version": v.model_version,
        "traffic_percentage": percentage_of(v.buckets),
        "config": dict(v.config),
        "metadata": dict(v.metadata),
    }


def status_of(name: str | None) -> Status | None:
    return None if name is None else Status(name)


def _percentages(shares: Mapping[str, int] | None) -> dict[str, float] | None:
    return None if shares is None else {name: percentage_of(buckets) for name, buckets in shares.items()}


def _buckets(percentage: Decimal) -> int:
    buckets = buckets_of(percentage)
    assert buckets is not None, "validated by Percentage"
    return buckets


def _iso(micros: int | None) -> str | None:
    return None if micros is None else to_iso(micros)

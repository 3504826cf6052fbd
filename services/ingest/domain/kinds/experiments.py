"""What happens to the units of experiments. In results it counts by the unit's exposure, not by what it says."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from services.ingest.domain.kinds.family import ANY_UNIT, Demand, Family, Name, Object, Text

_Id = Annotated[str | int, Meta(description="Kept for whoever reads events; results go by the unit's exposure")]


class _OfExperiment(msgspec.Struct, kw_only=True):
    experiment_id: _Id
    variant_id: _Id | None = None
    metadata: Object | None = None


class Impression(_OfExperiment, kw_only=True):
    """A unit has been shown something."""


class Click(_OfExperiment, kw_only=True):
    """A unit has chosen something."""


class Engagement(_OfExperiment, kw_only=True):
    """A unit has spent time on something."""

    engagement_time: Annotated[float, Meta(ge=0, description="Milliseconds")] | None = None


class Error(_OfExperiment, kw_only=True):
    """Something went wrong for a unit."""

    error_code: Name | None = None
    error_message: Text | None = None


class Custom(_OfExperiment, kw_only=True):
    """Anything else, under a name of its own."""

    custom_type: Name


class Conversion(msgspec.Struct, kw_only=True):
    """A unit has done what was hoped for."""

    conversion_type: Literal["Purchase", "SignUp", "Download", "Share", "Engagement", "Custom"]
    value: Annotated[float, Meta(description="What it is worth, such as an amount; 0 if it has no worth in numbers")]
    custom_type: Annotated[str, Meta(min_length=1, max_length=200, description="Which, of type Custom")] | None = None
    conversion_id: str | int | None = None
    attribution: Annotated[Object, Meta(description="What led to it: source, medium, campaign …")] | None = None
    experiment_id: _Id | None = None
    variant_id: _Id | None = None
    metadata: Object | None = None


def _of_experiment(fields: type[_OfExperiment]) -> Demand:
    return Demand(fields, marks=("experiment_id",), ids=ANY_UNIT)


EXPERIMENT_EVENTS = Family(
    "experiment-events",
    "Events of an experiment's units",
    {
        "impression": _of_experiment(Impression),
        "click": _of_experiment(Click),
        "conversion": Demand(
            Conversion,
            marks=("conversion_type",),
            ids=ANY_UNIT,
            needs={("conversion_type", "Custom"): "custom_type"},
        ),
        "engagement": _of_experiment(Engagement),
        "error": _of_experiment(Error),
        "custom": _of_experiment(Custom),
    },
)

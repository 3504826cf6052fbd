"""What assignment tells the rest of the platform about units: exposures and results, as events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from services.assignment.domain.decision import Placement
from shared.messages import Event, Experiment, UnitKind, Variant

EXPOSURE = "experiment_exposure"
RESULT = "experiment_result"


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids that a request knows its unit by."""

    user: str | None = None
    anonymous: str | None = None
    session: str | None = None
    job: str | None = None

    def of_kind(self, kind: UnitKind) -> str | None:
        """A visitor without user id takes part in an experiment by user under its anonymous id."""
        match kind:
            case "user":
                return self.anonymous if self.user is None else self.user
            case "session":
                return self.session
            case "job":
                return self.job


def exposure_id(experiment: Experiment, unit: str, variant: Variant) -> str:
    """The same for every repetition of one exposure, so that it counts once; different for any other."""
    parts = [experiment.id, experiment.salt, unit, variant.name]
    return "exp_" + blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def exposure(
    experiment: Experiment,
    placement: Placement,
    variant: Variant,
    unit: str,
    ids: Ids,
    context: Mapping[str, Any],
    now: int,
) -> Event:
    """The unit has been given the variant at `now` (µs)."""
    properties: dict[str, Any] = {
        "experiment": experiment.key,
        "experiment_id": experiment.id,
        "version": experiment.version,
        "variant": variant.name,
        "unit_kind": experiment.unit,
        "unit": unit,
    }
    if placement.stratum is not None:
        properties["stratum"] = placement.stratum
    return Event(
        organisation=experiment.organisation,
        event_id=exposure_id(experiment, unit, variant),
        event_type=EXPOSURE,
        time=now,
        received_at=now,
        user_id=ids.user,
        anonymous_id=ids.anonymous,
        session_id=ids.session,
        job_id=ids.job,
        context=dict(context),
        properties=properties,
    )


def result(
    experiment: Experiment,
    variant: Variant,
    metric_name: str,
    metric_value: float,
    metadata: Mapping[str, Any],
    ids: Ids,
    event_id: str,
    now: int,
) -> Event:
    """A measured outcome, attributed by whoever sent it to the variant."""
    return Event(
        organisation=experiment.organisation,
        event_id=event_id,
        event_type=RESULT,
        time=now,
        received_at=now,
        user_id=ids.user,
        anonymous_id=ids.anonymous,
        session_id=ids.session,
        job_id=ids.job,
        properties={
            "experiment": experiment.key,
            "experiment_id": experiment.id,
            "variant": variant.name,
            "variant_id": variant.id,
            "metric_name": metric_name,
            "metric_value": metric_value,
            "metadata": dict(metadata),
        },
    )

"""What a definition asks of units in experiments: limits of their sums, and what they did before they took part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.aggregator.domain.specs import refuse_unknown
from services.aggregator.domain.values import scale_one
from shared.definition_error import DefinitionError

FIELDS = {"winsorise", "covariate_days"}
"""Of a count's or value's spec."""
MAX_COVARIATE_DAYS = 30


@dataclass(frozen=True, slots=True)
class ByUnit:
    """`lower` and `upper` are scaled; a unit's sum beyond them enters Σ and Σ² over units as if it were the limit."""

    lower: int | None = None
    upper: int | None = None
    covariate_days: int = 0
    """How long before a unit's first exposure its values make up the covariate; 0: none is kept."""
    sketched: bool = False
    """Whether a histogram of values is kept by variant."""
    exact_up_to: int | None = None
    """Values are hashes, of which different ones are told apart: exactly up to so many."""
    run_length: int | None = None
    """Values say how something ended (`runs.as_value`); so many of the latest failures are kept."""

    @property
    def summed(self) -> bool:
        """Whether values are amounts."""
        return self.exact_up_to is None and self.run_length is None


NOTHING = ByUnit()


def parse_by_unit(spec: Mapping[str, Any], scale: int, *, sketched: bool = False) -> ByUnit:
    """Raises DefinitionError, which names the faulty place."""
    limits = spec.get("winsorise")
    days = spec.get("covariate_days")
    if limits is None:
        limits = {}
    elif not isinstance(limits, Mapping) or not limits:
        raise DefinitionError("spec.winsorise", "must be an object with lower, upper or both")
    refuse_unknown(limits, {"lower", "upper"}, "spec.winsorise")
    lower, upper = _limit(limits, "lower", scale), _limit(limits, "upper", scale)
    if lower is not None and upper is not None and lower > upper:
        raise DefinitionError("spec.winsorise", "lower is above upper")
    if days is not None and (type(days) is not int or not 0 <= days <= MAX_COVARIATE_DAYS):
        raise DefinitionError("spec.covariate_days", f"must be an integer from 0 to {MAX_COVARIATE_DAYS}")
    return ByUnit(lower, upper, days or 0, sketched)


def _limit(limits: Mapping[str, Any], name: str, scale: int) -> int | None:
    given = limits.get(name)
    if given is None:
        return None
    place = f"spec.winsorise.{name}"
    if type(given) not in (int, float) or (type(given) is float and not math.isfinite(given)):
        raise DefinitionError(place, "must be a number")
    scaled = scale_one(given, scale)
    if not isinstance(scaled, int):
        raise DefinitionError(place, "is too large")
    return scaled

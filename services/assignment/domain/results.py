"""From shards of integer sums to the figures that people read; rounding happens once, at the very end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from shared.clock import to_iso
from shared.statistics.proportion import wilson_interval


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard's totals of one variant and metric, sums in units of 10**-scale (squares: 10**-2·scale).

    Metric '' counts exposures: its units are the variant's sample.
    """

    variant: str
    metric: str
    component: str
    scale: int
    observations: int
    sum: int
    min: int | None
    max: int | None
    units: int
    unit_sum: int
    unit_sum_squares: int
    conflicted: int
    updated_at: int

    def at_scale(self, scale: int) -> Shard:
        factor = 10 ** (scale - self.scale)
        return replace(
            self,
            scale=scale,
            sum=self.sum * factor,
            min=None if self.min is None else self.min * factor,
            max=None if self.max is None else self.max * factor,
            unit_sum=self.unit_sum * factor,
            unit_sum_squares=self.unit_sum_squares * factor * factor,
        )

    def __add__(self, other: Shard) -> Shard:
        """Of the same variant and metric."""
        if other.scale != self.scale:
            scale = max(self.scale, other.scale)
            return self.at_scale(scale) + other.at_scale(scale)
        return replace(
            self,
            observations=self.observations + other.observations,
            sum=self.sum + other.sum,
            min=min((m for m in (self.min, other.min) if m is not None), default=None),
            max=max((m for m in (self.max, other.max) if m is not None), default=None),
            units=self.units + other.units,
            unit_sum=self.unit_sum + other.unit_sum,
            unit_sum_squares=self.unit_sum_squares + other.unit_sum_squares,
            conflicted=self.conflicted + other.conflicted,
            updated_at=max(self.updated_at, other.updated_at),
        )


def summarise(variants: Sequence[str], shards: Iterable[Shard]) -> dict[str, Any]:
    """Variant → sample size and metrics, in S2's form with our additions; a variant without data has zeros."""
    totals: dict[tuple[str, str, str], Shard] = {}
    for shard in shards:
        key = (shard.variant, shard.metric, shard.component)
        totals[key] = totals[key] + shard if key in totals else shard
    body: dict[str, Any] = {}
    for variant in variants:
        exposed = [t for (v, metric, _), t in totals.items() if v == variant and metric == ""]
        sample = sum(t.units for t in exposed)
        named = {
            _name(metric, component): t
            for (v, metric, component), t in sorted(totals.items())
            if v == variant and metric != ""
        }
        body[variant] = {
            "sample_size": sample,
            "conflicted_units": sum(t.conflicted for t in exposed),
            "metrics": {name: _metric(t, sample) for name, t in named.items()},
        }
    return body


def as_of(shards: Iterable[Shard]) -> str | None:
    """When the newest of the figures was written (RFC 3339)."""
    newest = max((s.updated_at for s in shards), default=None)
    return None if newest is None else to_iso(newest)


def _name(metric: str, component: str) -> str:
    """A ratio keeps its two sides apart."""
    return f"{metric}.{component}" if component in ("numerator", "denominator") else metric


def _metric(total: Shard, sample: int) -> dict[str, Any]:
    one = 10**total.scale
    units = total.units
    spread = units * total.unit_sum_squares - total.unit_sum**2
    # A unit without exposure is not in the sample: then there is no share to speak of.
    known = 0 <= units <= sample and sample > 0
    return {
        "count": total.observations,
        "mean": _float(total.sum, total.observations * one),
        "min": None if total.min is None else _float(total.min, one),
        "max": None if total.max is None else _float(total.max, one),
        "sum": _float(total.sum, one),
        "units": units,
        "unit_mean": _float(total.unit_sum, units * one),
        "unit_variance": _float(spread, units * (units - 1) * one * one),
        "rate": units / sample if known else None,
        "rate_interval": list(wilson_interval(units, sample)) if known else None,
        "conflicted_units": total.conflicted,
        "as_of": to_iso(total.updated_at),
    }


def _float(numerator: int, denominator: int) -> float | None:
    """The double nearest to the exact quotient; None where there is none."""
    return None if denominator <= 0 else float(Fraction(numerator, denominator))

"""What is added to the totals of variants: observations event by event, and sums over units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.deltas import UnitlessResult
from services.aggregator.domain.plan import UnitSeries
from services.aggregator.domain.states import AnyState, DistinctSet, Histogram, merged
from services.aggregator.domain.sums import squares_of, sums_of
from shared.statistics import sketch
from shared.statistics.distinct import Distinct


@dataclass(slots=True)
class TotalsDelta:
    """What to add to one variant's totals of one series. Sums are scaled, those of squares and products twice.

    Those of the first line are over events, the others over units; `other` is what `sum` is compared with: a ratio's
    denominator, or the covariate.
    """

    observations: int = 0
    sum: int = 0
    sum_squares: int = 0
    min: int | None = None
    max: int | None = None
    state: AnyState | None = None
    units: int = 0
    unit_sum: int = 0
    unit_sum_squares: int = 0
    other_sum: int = 0
    other_sum_squares: int = 0
    cross_sum: int = 0
    conflicted: int = 0

    def add(self, values: npt.NDArray[np.int64]) -> None:
        """At least one event's value."""
        start = np.zeros(1, dtype=np.int64)
        self.sum += sums_of(values, start)[0]
        self.sum_squares += squares_of(values, start)[0]
        low, high = int(values.min()), int(values.max())
        self.min = low if self.min is None else min(self.min, low)
        self.max = high if self.max is None else max(self.max, high)


@dataclass(slots=True)
class Totals:
    """By series and variant."""

    deltas: dict[tuple[UnitSeries, str], TotalsDelta] = field(default_factory=dict)

    def of(self, series: UnitSeries, variant: str) -> TotalsDelta:
        return self.deltas.setdefault((series, variant), TotalsDelta())

    def observe(
        self, series: UnitSeries, variants: Sequence[str], codes: npt.NDArray[np.int64], values: npt.NDArray[np.int64]
    ) -> None:
        """Adds events: `codes` are places in `variants`, `values` are scaled (of uniques: hashes)."""
        for code in np.unique(codes).tolist():
            chosen = values[codes == code]
            delta = self.of(series, variants[code])
            delta.observations += len(chosen)
            state: AnyState | None = None
            if series.by_unit.exact_up_to is not None:
                hashes = np.unique(chosen.view(np.uint64))
                state = DistinctSet(Distinct.of(hashes, series.by_unit.exact_up_to))
            else:
                delta.add(chosen)
                if series.by_unit.sketched:
                    state = Histogram.of(np.unique(sketch.buckets_of(chosen), return_counts=True))
            delta.state = merged(delta.state, state)

    def observe_unitless(self, results: Sequence[UnitlessResult]) -> None:
        by_series: dict[UnitSeries, list[UnitlessResult]] = {}
        for r in results:
            by_series.setdefault(r.series, []).append(r)
        for series, found in by_series.items():
            variants = sorted({r.variant for r in found})
            codes = np.array([variants.index(r.variant) for r in found], dtype=np.int64)
            self.observe(series, variants, codes, np.array([r.value for r in found], dtype=np.int64))

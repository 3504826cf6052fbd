"""What is added to the totals of variants: observations event by event, and sums over units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.deltas import UnitlessResult
from services.aggregator.domain.plan import UnitSeries
from services.aggregator.domain.runs import of_values
from services.aggregator.domain.states import AnyState, DistinctSet, Histogram, LatestRun, merged
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
        """Adds events: `codes` are places in `variants`, `values` are scaled (or hashes, or endings of a streak)."""
        if not len(values):
            return
        order = np.argsort(codes.astype(np.int16), kind="stable")  # variants are few: sorted by radix
        codes, values = codes[order], values[order]
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        for code, chosen in zip(codes[starts].tolist(), np.split(values, starts[1:]), strict=True):
            delta = self.of(series, variants[code])
            delta.observations += len(chosen)
            state: AnyState | None = None
            if series.by_unit.exact_up_to is not None:
                state = DistinctSet(Distinct.of(chosen.view(np.uint64), series.by_unit.exact_up_to))
            elif series.by_unit.run_length is not None:
                run = of_values(chosen.tolist(), series.by_unit.run_length)
                state = LatestRun(run, series.by_unit.run_length)
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

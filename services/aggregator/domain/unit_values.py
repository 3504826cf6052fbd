"""What a measure's events give to their units in an experiment."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.deltas import Deltas, UnitValues
from services.aggregator.domain.frame import Frame, Indices
from services.aggregator.domain.plan import UnitPlan


def collect_unit_values(
    deltas: Deltas, frame: Frame, plan: UnitPlan, rows: Indices, values: npt.NDArray[np.int64] | None
) -> None:
    """`values` are scaled, one a row; None counts one each. Rows without a unit, or after the end, give nothing."""
    times = frame.times[rows].tolist()
    units = frame.units(plan.unit_kind, rows.tolist())
    kept = [
        i
        for i, (unit, time) in enumerate(zip(units, times, strict=True))
        if unit is not None and (plan.until is None or time <= plan.until)
    ]
    if not kept:
        return
    one = 10**plan.series.scale
    deltas.unit_values.append(
        UnitValues(
            series=plan.series,
            exposure=plan.exposure,
            units=[units[i] for i in kept],  # type: ignore[misc]  # kept holds none without unit
            times=[times[i] for i in kept],
            values=[one] * len(kept) if values is None else values[kept].tolist(),
        )
    )

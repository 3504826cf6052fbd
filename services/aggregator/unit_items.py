"""Journeys and funnels by variant, as the API shows them: an item a state that units are in, then one a reading."""

from __future__ import annotations

from typing import Any

from services.aggregator.domain.kinds.funnel import Funnel
from services.aggregator.domain.kinds.journey import Journey
from services.aggregator.domain.kinds.kind import aggregate
from services.aggregator.domain.metrics import Definition
from services.aggregator.queries import TOTAL
from services.aggregator.readings import wanted_of
from services.aggregator.unit_queries import UnitQueries, VariantUnits, averaged, component_of


async def unit_items(
    queries: UnitQueries,
    organisation: str,
    experiment: str,
    definition: Definition,
    kind: Journey | Funnel,
    *,
    aggregation: str | None,
    segment: str | None,
    until: int | None,
) -> list[dict[str, Any]]:
    """Of units that started up to `until` (µs; None: whenever they did). Empty if none takes part.

    With an aggregation its readings alone, else all and the states. Raises Problem of what cannot be read.
    """
    wanted = wanted_of(definition, aggregation)
    found = await queries.by_variant(organisation, experiment, definition, kind, segment, wanted, until=until)
    items: list[dict[str, Any]] = []
    for cut, units in found.items():
        common = {
            "metric_name": definition.key,
            "time_window": TOTAL,
            "window_start": None,
            "window_end": None,
            "experiment": experiment,
            "variant": cut.variant,
            "segment": None if segment is None else {segment: cut.segment},
        }
        states = _states(units, kind) if aggregation is None else []
        items += [{**common, **item} for item in (*states, *_readings(units, kind, wanted))]
    return items


def _states(units: VariantUnits, kind: Journey | Funnel) -> list[dict[str, Any]]:
    """`share` is of the variant's units, `mean` and `variance` are of durations."""
    whole = sum(state.n for state in units.states.values())
    return [
        {
            "part": name,
            "count": state.n,
            "share": state.n / whole if whole else None,
            "mean": aggregate(state.durations, "avg", kind.scale),
            "variance": aggregate(state.durations, "variance", kind.scale),
            "includes_conflicted": False,
            "conflicted": state.conflicted,
        }
        for name, state in sorted(units.states.items())
    ]


def _readings(units: VariantUnits, kind: Journey | Funnel, wanted: tuple[str, ...]) -> list[dict[str, Any]]:
    """What some unit's row is too old to say has no value."""
    conflicted = sum(state.conflicted for state in units.states.values())
    items: list[dict[str, Any]] = []
    for reading in kind.read(units.cells, wanted):
        known = component_of(kind, reading.aggregation) not in units.unknown
        item = {
            "part": reading.part,
            "aggregation_type": reading.aggregation,
            "metric_value": reading.value if known else None,
            "count": reading.count,
            "includes_conflicted": False,
            "conflicted": conflicted,
        }
        timed = averaged(kind, reading.aggregation)
        if timed is not None:
            item["variance"] = aggregate(units.cells[timed], "variance", kind.scale) if known else None
        items.append(item)
    return items

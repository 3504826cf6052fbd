"""What the API reads of journeys and funnels by variant: whose a unit is, its earliest start says.

    unit's row ── state, duration ──────────► outcomes, stages, reasons to drop off
        │    └─── parts ────────────────────► steps, durations, times to stages
        └◄── named by a shared key's row ───► correlated streams; first attempts are rows with a state of their own

A unit counts for the variant of the id that its earliest start carried, if it started after that id's exposure and
before the experiment's end, and for none if the id was seen in two. All of it is exact, and read in one snapshot.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from services.aggregator.cuts import EXPOSURES, MEMORY, Cut, largest
from services.aggregator.domain.kinds.funnel import Funnel
from services.aggregator.domain.kinds.journey import Journey
from services.aggregator.domain.kinds.kind import Cell, Component, Part, percentile_of
from services.aggregator.domain.metrics import Definition
from services.aggregator.domain.outcomes import COMPLETED
from services.aggregator.domain.states import Histogram
from shared.postgres import Connection, Pool
from shared.statistics import sketch

_EVER = 2**63 - 1

# `f` is a unit's row of the series `s`. $1 to $3 name the metric, $4 to $6 exposures, segment and kind of unit; $7 is
# the experiment's end.
_OF_WHOM = """
    JOIN LATERAL (
        SELECT u.variant, u.conflicted, u.context::json ->> $5 AS segment FROM experiment_units u
        WHERE u.series_id = $4 AND u.variant IS NOT NULL AND f.started >= u.first_exposure - 5000000
          AND u.unit = CASE $6 WHEN 'user' THEN f.user_id WHEN 'session' THEN f.session_id ELSE f.job_id END
    ) AS u ON true
    WHERE s.organisation = $1 AND s.metric = $2 AND s.version = $3 AND s.visible AND f.started <= $7
"""
# A unit may stand in a state for several reasons; rows of before there were parts know neither these nor the parts.
_STATES = f"""
    SELECT u.variant, u.segment, s.component, f.state, f.part_names[1] AS reason,
           count(*) FILTER (WHERE NOT u.conflicted) AS n,
           count(*) FILTER (WHERE u.conflicted) AS conflicted,
           count(f.duration) FILTER (WHERE NOT u.conflicted) AS timed,
           sum(f.duration) FILTER (WHERE NOT u.conflicted) AS duration,
           sum(f.duration::numeric * f.duration) FILTER (WHERE NOT u.conflicted) AS squares,
           count(*) FILTER (WHERE NOT u.conflicted AND f.parts IS NULL AND (f.facts IS NULL OR f.settles IS NULL))
               AS without_parts,
           count(*) FILTER (WHERE NOT u.conflicted AND f.part_names IS NULL) AS without_names
    FROM unit_facts f JOIN window_series s ON s.id = f.series_id {_OF_WHOM}
      AND s.component IN ('outcome', 'stage', 'first_attempt')
    GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""
# $8: the places of parts with a histogram, $9: its bounds.
_PARTS = f"""
    SELECT u.variant, u.segment, p.place,
           CASE WHEN p.place = ANY($8::bigint[])
                THEN width_bucket(least(p.value, {sketch.MAX_SCALED}) - 1, $9::bigint[]) END AS bucket,
           count(*) AS n, sum(p.value) AS sum, sum(p.value::numeric * p.value) AS squares
    FROM unit_facts f JOIN window_series s ON s.id = f.series_id
    CROSS JOIN LATERAL unnest(coalesce(f.parts, stage_times(f.facts, f.settles)))
        WITH ORDINALITY AS p (value, place) {_OF_WHOM}
      AND s.component IN ('outcome', 'stage') AND NOT u.conflicted AND p.value IS NOT NULL
    GROUP BY 1, 2, 3, 4
"""
_RELATED = f"""
    SELECT u.variant, u.segment, k.track, count(*) FILTER (WHERE p.value >= 0) AS n,
           sum(p.value) FILTER (WHERE p.value >= 0) AS sum,
           sum(p.value::numeric * p.value) FILTER (WHERE p.value >= 0) AS squares,
           -sum(p.value) FILTER (WHERE p.value < 0) AS matched
    FROM unit_facts f JOIN window_series s ON s.id = f.series_id
    JOIN window_series r ON r.organisation = s.organisation AND r.metric = s.metric AND r.version = s.version
        AND r.component = 'correlated' AND r.visible
    JOIN (unit_facts k CROSS JOIN LATERAL unnest(k.part_names, k.parts) AS p (unit, value))
        ON k.series_id = r.id AND p.unit = f.unit {_OF_WHOM}
      AND s.component = 'outcome' AND NOT u.conflicted
    GROUP BY 1, 2, 3
"""
_RELATED_WITHOUT_PARTS = """
    SELECT EXISTS (
        SELECT FROM unit_facts f JOIN window_series s ON s.id = f.series_id
        WHERE s.organisation = $1 AND s.metric = $2 AND s.version = $3 AND s.visible
          AND s.component = 'correlated' AND f.parts IS NULL AND f.started IS NOT NULL)
"""


@dataclass(slots=True)
class StateTotals:
    """Units in one state; `n` leaves conflicted ones out. Durations (scaled milliseconds) not all of them have."""

    n: int = 0
    conflicted: int = 0
    durations: Cell = field(default_factory=Cell)


@dataclass(slots=True)
class VariantUnits:
    """A variant's units of a journey or funnel, conflicted ones left out: by state, and as a window would hold them.

    `unknown`: components of which some unit's row says nothing, as it was written before they were kept.
    """

    states: defaultdict[str, StateTotals] = field(default_factory=lambda: defaultdict(StateTotals))
    cells: defaultdict[Part, Cell] = field(default_factory=lambda: defaultdict(Cell))
    unknown: set[Component] = field(default_factory=set)


_Found = defaultdict[Cut, VariantUnits]

_COMPONENTS: dict[str, Component] = {
    "reached": "step",
    "count": "duration",
    "avg": "duration",
    "within": "within",
    "within_rate": "within",
    "with": "correlated",
    "with_rate": "correlated",
    "avg_time": "correlated",
    "matched": "matched",
    "matched_rate": "matched",
}
"""Of a journey, by what stands before the colon; the others are read of states alone."""


def component_of(kind: Journey | Funnel, aggregation: str) -> Component:
    """Whose cells it is read of, beside those of states: of a funnel's times "stage"."""
    lead, colon, _ = aggregation.partition(":")
    if isinstance(kind, Funnel):
        return "stage" if lead == "avg_time" else "drop_off" if lead == "drop_off" else "outcome"
    if not colon:
        return "outcome"
    return "duration" if percentile_of(lead) is not None else _COMPONENTS.get(lead, "outcome")


def averaged(kind: Journey | Funnel, aggregation: str) -> Part | None:
    """The cell that it is the average of; None if it is none."""
    lead, _, name = aggregation.partition(":")
    if lead == "avg_duration":
        return "outcome", COMPLETED
    return (component_of(kind, aggregation), name) if lead in ("avg", "avg_time") else None


class UnitQueries:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def by_variant(
        self,
        organisation: str,
        experiment: str,
        definition: Definition,
        kind: Journey | Funnel,
        path: str | None,
        wanted: Iterable[str],
        *,
        until: int | None,
    ) -> dict[Cut, VariantUnits]:
        """In order of variants and segments; cells of what `wanted` asks for. Empty if no unit takes part.

        Of units that started up to `until` (µs; None: whenever they did), whatever became of them later.
        """
        needed = {component_of(kind, aggregation) for aggregation in wanted}
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            exposures = await connection.fetchrow(EXPOSURES, organisation, experiment)
            if exposures is None:
                return {}
            await connection.execute(MEMORY)
            names = (organisation, definition.key, definition.version)
            asked = (*names, exposures["id"], path or "", exposures["unit_kind"], _EVER if until is None else until)
            found: _Found = defaultdict(VariantUnits)
            _add_states(found, kind, await connection.fetch(_STATES, *asked))
            if needed & {"step", "duration", "within", "stage"}:
                await _add_parts(connection, found, kind, asked)
            if needed & {"correlated", "matched"}:
                unknown = await connection.fetchval(_RELATED_WITHOUT_PARTS, *names)
                _add_related(found, await connection.fetch(_RELATED, *asked), unknown=unknown)
        sizes = {cut: sum(s.n + s.conflicted for s in units.states.values()) for cut, units in found.items()}
        return {cut: found[cut] for cut in largest(sizes)}


def _add_states(found: _Found, kind: Journey | Funnel, rows: Iterable[Any]) -> None:
    for row in rows:
        units, component, state = found[_cut(row)], row["component"], row["state"]
        n, duration, squares = row["n"], int(row["duration"] or 0), int(row["squares"] or 0)
        if component == "first_attempt":
            units.cells["first_attempt", state].n += n
            continue
        totals = units.states[state]
        totals.n += n
        totals.conflicted += row["conflicted"]
        totals.durations.add(row["timed"], duration, squares, None, None, b"")
        units.unknown |= _unknown(kind, row)
        if isinstance(kind, Journey):
            units.cells["outcome", state].add(n, duration, squares, None, None, b"")
            continue
        for name in kind.track.names[: kind.track.names.index(state) + 1]:
            units.cells["stage", name].n += n
        if row["reason"] is not None:
            units.cells["drop_off", f"{state}|{row['reason']}"].n += n


def _cut(row: Any) -> Cut:
    return Cut(row["variant"], row["segment"])


def _unknown(kind: Journey | Funnel, row: Any) -> set[Component]:
    if isinstance(kind, Journey):
        return {"step", "duration", "within"} if row["without_parts"] and kind.track.kept else set()
    found: set[Component] = {"stage"} if row["without_parts"] else set()
    return {*found, "drop_off"} if row["without_names"] and "drop_off" in kind.components else found


async def _add_parts(connection: Connection, found: _Found, kind: Journey | Funnel, asked: tuple[Any, ...]) -> None:
    kept = kind.track.kept
    sketched = [place for place, one in enumerate(kind.track.sketched, start=1) if one]
    histograms: defaultdict[tuple[Cut, Part], Counter[int]] = defaultdict(Counter)
    for row in await connection.fetch(_PARTS, *asked, sketched, sketch.BOUNDS.tolist()):
        if row["place"] > len(kept):
            continue  # a funnel's reasons follow its stages in facts
        cut, part = _cut(row), kept[row["place"] - 1]
        cell = found[cut].cells[part]
        # How many reached a stage, its state has said.
        cell.add(0 if part[0] == "stage" else row["n"], int(row["sum"]), int(row["squares"]), None, None, b"")
        if row["bucket"] is not None:
            histograms[cut, part][row["bucket"]] += row["n"]
    for (cut, part), counts in histograms.items():
        found[cut].cells[part].state = Histogram(counts)


def _add_related(found: _Found, rows: Iterable[Any], *, unknown: bool) -> None:
    for row in rows:
        cells = found[_cut(row)].cells
        cells["correlated", row["track"]].add(
            row["n"], int(row["sum"] or 0), int(row["squares"] or 0), None, None, b""
        )
        cells["matched", row["track"]].n += int(row["matched"] or 0)
    if unknown:
        for units in found.values():
            units.unknown |= {"correlated", "matched"}

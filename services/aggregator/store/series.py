"""Small integers for series: rows carry an id instead of four names."""

from __future__ import annotations

from collections.abc import Iterable

from services.aggregator.domain.plan import UnitSeries, WindowSeries
from shared.postgres import Connection


class SeriesIds:
    """Ids of all series this process has met; ids never change, so they are kept for good.

    A database crash may take back the last transactions of a worker, but never an id that is kept here: it is
    committed durably, or rows would be added under an id that means nothing, or something else.
    """

    def __init__(self, backfill: int | None = None) -> None:
        """Of live series, or of those, hidden at first, that a backfill writes."""
        self._backfill = backfill
        self._windows: dict[WindowSeries, int] = {}
        self._units: dict[UnitSeries, int] = {}

    def window(self, series: WindowSeries) -> int:
        return self._windows[series]

    def unit(self, series: UnitSeries) -> int:
        return self._units[series]

    def know_windows(self, wanted: Iterable[WindowSeries]) -> bool:
        """Whether `window(s)` works for each already, so that nothing has to be registered."""
        return self._windows.keys() >= set(wanted)

    async def register_windows(self, connection: Connection, wanted: Iterable[WindowSeries]) -> None:
        """Makes `window(s)` work for each; commits by itself: an id without rows harms nothing."""
        for s in sorted(set(wanted) - self._windows.keys()):
            await _insert_durably(
                connection,
                "INSERT INTO window_series (organisation, metric, version, component, scale, backfill_id, visible) "
                "VALUES ($1, $2, $3, $4, $5, $6, $6::int IS NULL) ON CONFLICT DO NOTHING",
                s.organisation,
                s.metric,
                s.version,
                s.component,
                s.scale,
                self._backfill,
            )
            self._windows[s] = await connection.fetchval(
                "SELECT id FROM window_series "
                "WHERE organisation = $1 AND metric = $2 AND version = $3 AND component = $4 "
                "AND backfill_id IS NOT DISTINCT FROM $5",
                s.organisation,
                s.metric,
                s.version,
                s.component,
                self._backfill,
            )

    async def register_units(self, connection: Connection, wanted: Iterable[UnitSeries]) -> None:
        """Makes `unit(s)` work for each; commits by itself, like `register_windows`."""
        for s in sorted(set(wanted) - self._units.keys()):
            await _insert_durably(
                connection,
                "INSERT INTO experiment_series (organisation, experiment, metric, version, component, scale, part, "
                "lower, upper, covariate_days, sketched, exact_up_to, run_length, unit_kind) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) "
                "ON CONFLICT (organisation, experiment, metric, version, component, part) "
                "DO UPDATE SET unit_kind = excluded.unit_kind "
                "WHERE experiment_series.unit_kind IS NULL AND excluded.unit_kind IS NOT NULL",
                s.organisation,
                s.experiment,
                s.metric,
                s.version,
                s.component,
                s.scale,
                s.part,
                s.by_unit.lower,
                s.by_unit.upper,
                s.by_unit.covariate_days,
                s.by_unit.sketched,
                s.by_unit.exact_up_to,
                s.by_unit.run_length,
                s.unit_kind,
            )
            self._units[s] = await connection.fetchval(
                "SELECT id FROM experiment_series WHERE organisation = $1 AND experiment = $2 AND metric = $3 "
                "AND version = $4 AND component = $5 AND part = $6",
                s.organisation,
                s.experiment,
                s.metric,
                s.version,
                s.component,
                s.part,
            )


async def _insert_durably(connection: Connection, statement: str, *values: object) -> None:
    async with connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit = on")
        await connection.execute(statement, *values)

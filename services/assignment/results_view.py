"""Totals per variant, read through the aggregator's published view; shards are added here."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from services.assignment.domain.results import Shard
from shared.clock import from_datetime
from shared.http import Problem, unavailable
from shared.postgres import RETRYABLE, Pool

VIEW = "aggregator.v1_experiment_totals"


class ResultsView:
    """`view` is its qualified name."""

    def __init__(self, pool: Pool, *, view: str = VIEW) -> None:
        self._pool = pool
        self._query = f"""
            SELECT variant, metric, component, scale, observations, sum, min, max,
                   units, unit_sum, unit_sum_squares, conflicted, updated_at
            FROM {view} WHERE organisation = $1 AND experiment = $2
        """

    async def shards(self, organisation: str, experiment: str) -> Sequence[Shard]:
        """Raises Problem (503) while the view or Postgres is not there."""
        try:
            rows = await self._pool.fetch(self._query, organisation, experiment)
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
            raise _unreadable("the aggregator's totals do not exist yet") from error
        except RETRYABLE as error:
            raise _unreadable("Postgres does not answer") from error
        return [
            Shard(
                variant=r["variant"],
                metric=r["metric"],
                component=r["component"],
                scale=r["scale"],
                observations=r["observations"],
                sum=int(r["sum"]),
                min=None if r["min"] is None else int(r["min"]),
                max=None if r["max"] is None else int(r["max"]),
                units=r["units"],
                unit_sum=int(r["unit_sum"]),
                unit_sum_squares=int(r["unit_sum_squares"]),
                conflicted=r["conflicted"],
                updated_at=from_datetime(r["updated_at"]),
            )
            for r in rows
        ]


def _unreadable(detail: str) -> Problem:
    return unavailable(detail, reason="results_unavailable")

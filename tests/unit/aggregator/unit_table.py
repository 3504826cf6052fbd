"""The table of units over time, as plainly as it can be said: what batches tell, then deadlines."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.aggregator.domain.deltas import Deltas, WindowDelta
from services.aggregator.domain.facts import Facts, united
from services.aggregator.domain.known import Learned, Remembered
from services.aggregator.domain.moves import Moves
from services.aggregator.domain.plan import TrackPlan
from services.aggregator.domain.tracks import Share, Track, known


@dataclass(slots=True)
class Row:
    plan: TrackPlan
    facts: Facts
    expired: bool = False


def shares(track: Track, facts: Facts, expired: bool) -> list[Share]:
    return track.shares(facts, track.moments(facts), expired)


@dataclass(slots=True)
class UnitTable:
    rows: dict[tuple[object, ...], Row] = field(default_factory=dict)

    def tell(self, deltas: Deltas, watermark: int, *, forget_before: int = 0) -> tuple[list[WindowDelta], Learned]:
        """What that adds to windows, and what is known of units then."""
        added: list[WindowDelta] = []
        learned: Learned = []

        def move(row: Row, after: Facts, *, expired: bool) -> None:
            moves, track = Moves(), row.plan.track
            moves.move(shares(track, row.facts, row.expired), shares(track, after, expired))
            row.facts, row.expired = after, expired
            added.extend(moves.deltas(row.plan.series))

        for plan, units in deltas.facts:
            track = plan.track
            for unit, told in units.items():
                row = self.rows.setdefault((plan.series, track.name, unit), Row(plan, ((),) * len(track.slots)))
                now = known(track, united(row.facts, told.facts))
                after = track.forget(now.facts, now.moments, forget_before) if forget_before else now.facts
                move(row, after, expired=row.expired)
                if row.facts[0]:
                    learned.append(((plan.series, track.name), {unit: Remembered(now.limits)}))
        for row in self.rows.values():
            track = row.plan.track
            deadline = None if row.expired else track.deadline(track.moments(row.facts))
            if deadline is not None and deadline <= watermark:
                move(row, row.facts, expired=True)
        return added, learned

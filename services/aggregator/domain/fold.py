"""Folds a batch of judged events into deltas: what to add to which row."""

from __future__ import annotations

from services.aggregator.domain.batch import Batch, Verdicts
from services.aggregator.domain.counting import count_organisations
from services.aggregator.domain.deltas import Deltas
from services.aggregator.domain.experiment_events import collect_exposures, collect_results
from services.aggregator.domain.frame import Frame
from services.aggregator.domain.measures import fold_measure
from services.aggregator.domain.plan import EXPOSURE, RESULT, Plan
from services.aggregator.domain.sequences import fold_journey, fold_streak


def fold(batch: Batch, verdicts: Verdicts, plan: Plan) -> Deltas:
    """Raises nothing for what events hold."""
    frame, deltas = Frame(batch, verdicts), Deltas()
    count_organisations(deltas, frame)
    for measure in plan.measures:
        fold_measure(deltas, frame, measure)
    for streak in plan.streaks:
        fold_streak(deltas, frame, streak)
    for journey in plan.journeys:
        fold_journey(deltas, frame, journey)
    for organisation, kinds in frame.by_type.items():
        if EXPOSURE in kinds:
            collect_exposures(deltas, frame, frame.counted(kinds[EXPOSURE]), organisation, plan)
        if RESULT in kinds:
            collect_results(deltas, frame, frame.counted(kinds[RESULT]), organisation, plan)
    return deltas

"""Folds a batch of judged events into deltas: what to add to which row."""

from __future__ import annotations

from services.aggregator.domain.batch import Batch, Verdicts
from services.aggregator.domain.caps import KnownGroups
from services.aggregator.domain.counting import count_organisations
from services.aggregator.domain.deltas import Deltas
from services.aggregator.domain.experiment_events import collect_exposures, collect_results
from services.aggregator.domain.frame import Frame
from services.aggregator.domain.known import KnownUnits
from services.aggregator.domain.links import collect_links
from services.aggregator.domain.measures import fold_measure
from services.aggregator.domain.plan import EXPOSURE, RESULT, Plan
from services.aggregator.domain.sequences import fold_streak
from services.aggregator.domain.unit_facts import fold_track


def fold(
    batch: Batch, verdicts: Verdicts, plan: Plan, known: KnownGroups | None = None, units: KnownUnits | None = None
) -> Deltas:
    """Raises nothing for what events hold.

    `known` are the shard's groups that count under their own name; None: there are none yet. What deltas say under
    `groups.unread` must be read into it, and the batch folded again. `units` is what is known of units for certain:
    what tells nothing new of them is only counted.
    """
    known = KnownGroups(stored=False) if known is None else known
    units = KnownUnits() if units is None else units
    frame, deltas = Frame(batch, verdicts), Deltas()
    count_organisations(deltas, frame)
    collect_links(deltas, frame)
    for measure in plan.measures:
        fold_measure(deltas, frame, measure, known)
    for streak in plan.streaks:
        fold_streak(deltas, frame, streak, known)
    for track in plan.tracks:
        fold_track(deltas, frame, track, units, known)
    for organisation in frame.organisations:
        exposures, results = (frame.counted(frame.of_type(organisation, kind)) for kind in (EXPOSURE, RESULT))
        collect_exposures(deltas, frame, exposures, organisation, plan)
        collect_results(deltas, frame, results, organisation, plan)
    return deltas

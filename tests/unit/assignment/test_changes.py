from __future__ import annotations

from dataclasses import replace

import pytest

from services.assignment.domain import changes
from services.assignment.domain.changes import Patch, act, with_patch, with_spec, with_variant
from services.assignment.domain.experiment import MAX_SPLITS, Stratum, Variant, slug, to_message
from services.assignment.domain.lifecycle import Action, Refusal, Status
from tests.unit.assignment.definitions import S0_STRATA, accepted, draft, refused, running, variants


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"variants": ()}, Refusal.TOO_FEW_VARIANTS),
        ({"variants": variants(1_000_000)}, Refusal.TOO_FEW_VARIANTS),
        (
            {"variants": tuple(replace(v, type="treatment") for v in variants(500_000, 500_000))},
            Refusal.CONTROL_MISSING,
        ),
        (
            {"variants": tuple(replace(v, type="control") for v in variants(500_000, 500_000))},
            Refusal.SEVERAL_CONTROLS,
        ),
        ({"variants": variants(500_000, 499_999)}, Refusal.NOT_100_PERCENT),
        ({"variants": variants(500_000, 500_001)}, Refusal.NOT_100_PERCENT),
        ({"plan": {"control": 900_000, "treatment": 100_000}}, Refusal.SPLIT_MISMATCH),
        ({"plan": {"realtime": 500_000, "nobody": 500_000}}, Refusal.SPLIT_MISMATCH),
        (
            {"stratify_by": "d", "strata": (Stratum("all", shares={"nobody": 1_000_000}),)},
            Refusal.SPLIT_MISMATCH,
        ),
    ],
)
def test_an_incomplete_draft_does_not_start(fields: dict[str, object], reason: Refusal) -> None:
    assert refused(act(draft(**fields), Action.START, 100)).reason is reason


def test_a_complete_draft_starts() -> None:
    started = running()
    assert started.status is Status.RUNNING
    assert started.started_at == 100
    assert [a.buckets for a in started.allocations] == [{"realtime": 500_000, "background": 500_000}]


def test_thirds_with_two_decimals_start() -> None:
    assert running(variants=variants(333_300, 333_300, 333_400)).status is Status.RUNNING


def test_a_plan_by_type_fits_variants_with_other_names() -> None:
    assert running(plan={"control": 500_000, "treatment": 500_000}).status is Status.RUNNING


def test_resuming_keeps_the_time_of_the_first_start() -> None:
    paused = accepted(act(running(), Action.PAUSE, 200))
    resumed = accepted(act(paused, Action.START, 300))
    assert (resumed.status, resumed.started_at, resumed.ended_at) == (Status.RUNNING, 100, None)


def test_ending_sets_the_time_once() -> None:
    completed = accepted(act(running(), Action.COMPLETE, 200))
    archived = accepted(act(completed, Action.ARCHIVE, 300))
    assert (completed.ended_at, archived.ended_at) == (200, 200)


def test_a_new_split_while_running_keeps_the_old_one_in_mind() -> None:
    changed = accepted(with_patch(running(), Patch(plan={"control": 400_000, "treatment": 600_000})))
    assert [v.buckets for v in changed.variants] == [400_000, 600_000]
    message = to_message(changed)
    assert [a.buckets for a in message.earlier] == [{"realtime": 500_000, "background": 500_000}]


def test_a_split_that_comes_back_is_kept_once() -> None:
    there = accepted(with_patch(running(), Patch(plan={"control": 400_000, "treatment": 600_000})))
    back = accepted(with_patch(there, Patch(plan={"control": 500_000, "treatment": 500_000})))
    assert [a.buckets["realtime"] for a in back.allocations] == [400_000, 500_000]


def test_the_number_of_different_splits_is_bounded() -> None:
    definition = running()
    for step in range(1, MAX_SPLITS):
        shares = {"control": 500_000 - step, "treatment": 500_000 + step}
        definition = accepted(with_patch(definition, Patch(plan=shares)))
    one_more = with_patch(definition, Patch(plan={"control": 1, "treatment": 999_999}))
    assert refused(one_more).reason is Refusal.TOO_MANY_SPLITS


@pytest.mark.parametrize(
    "plan",
    [
        {"control": 500_000},
        {"control": 500_000, "treatment": 400_000},
        {"control": 500_000, "treatment": 250_000, "other": 250_000},
        {"realtime": 500_000, "control": 500_000},
    ],
)
def test_a_running_split_must_name_every_variant_once_and_be_whole(plan: dict[str, int]) -> None:
    assert refused(with_patch(running(), Patch(plan=plan))).reason in (
        Refusal.SPLIT_MISMATCH,
        Refusal.NOT_100_PERCENT,
    )


def test_what_units_depend_on_is_fixed_once_started() -> None:
    assert refused(with_patch(running(), Patch(unit="job"))).reason is Refusal.FIXED_ONCE_STARTED
    assert refused(with_spec(running(), draft(salt="new"))).reason is Refusal.FIXED_ONCE_STARTED
    assert refused(with_patch(running(), Patch(segments=("user_id",)))).reason is Refusal.FIXED_ONCE_STARTED


def test_segments_of_a_draft_can_change_and_are_published() -> None:
    changed = accepted(with_patch(draft(), Patch(segments=("context.networkType",))))
    assert to_message(changed).segments == ("context.networkType",)
    added = with_variant(running(), Variant("new", "treatment", 0), share_given=True)
    assert refused(added).reason is Refusal.VARIANTS_FIXED
    other = with_spec(running(), draft(variants=variants(300_000, 300_000, 400_000)))
    assert refused(other).reason is Refusal.VARIANTS_FIXED


def test_a_draft_can_change_in_everything() -> None:
    changed = accepted(with_patch(draft(), Patch(unit="job", metrics=("m",), stratify_by="d", strata=S0_STRATA)))
    assert (changed.unit, changed.metrics, changed.stratify_by) == ("job", ("m",), "d")
    assert accepted(with_patch(changed, Patch(strata=()))).stratify_by is None


def test_an_ended_experiment_can_only_be_renamed() -> None:
    ended = accepted(act(running(), Action.COMPLETE, 200))
    assert accepted(with_patch(ended, Patch(name="Old", description="done"))).name == "Old"
    assert refused(with_patch(ended, Patch(metrics=("m",)))).reason is Refusal.ENDED
    assert refused(with_spec(ended, draft(variants=variants(400_000, 600_000)))).reason is Refusal.ENDED
    assert with_spec(ended, draft()) == ended


def test_the_same_spec_again_changes_nothing() -> None:
    started = running(stratify_by="d", strata=S0_STRATA)
    assert with_spec(started, draft(stratify_by="d", strata=S0_STRATA)) == started


def test_a_variant_takes_its_planned_share() -> None:
    empty = draft(variants=(), plan={"Control": 900_000, "treatment": 100_000})
    one = accepted(with_variant(empty, Variant("control", "control", 0), share_given=False))
    two = accepted(with_variant(one, Variant("Model B", "treatment", 0), share_given=False))
    assert [v.buckets for v in two.variants] == [900_000, 100_000]


def test_a_variant_against_the_plan_or_without_any_share_is_refused() -> None:
    planned = draft(variants=(), plan={"Control": 900_000, "treatment": 100_000})
    against = with_variant(planned, Variant("control", "control", 500_000), share_given=True)
    assert refused(against).reason is Refusal.SPLIT_MISMATCH
    without = with_variant(draft(variants=()), Variant("a", "control", 0), share_given=False)
    assert refused(without).reason is Refusal.PERCENTAGE_MISSING


def test_two_variants_cannot_share_a_name() -> None:
    twice = with_variant(draft(), Variant("REALTIME", "treatment", 0), share_given=True)
    assert refused(twice).reason is Refusal.VARIANT_TAKEN


def test_the_number_of_variants_is_bounded() -> None:
    definition = draft(variants=())
    for n in range(20):
        definition = accepted(with_variant(definition, Variant(f"v{n}", "treatment", 0), share_given=True))
    one_more = with_variant(definition, Variant("one more", "treatment", 0), share_given=True)
    assert refused(one_more).reason is Refusal.TOO_MANY_VARIANTS


@pytest.mark.parametrize(
    ("stratify_by", "strata"),
    [
        ("d", ()),
        (None, S0_STRATA),
        ("d", (Stratum("a", below=1),)),
        ("d", (Stratum("a"), Stratum("b"))),
        ("d", (Stratum("a", below=2), Stratum("b", below=1), Stratum("c"))),
        ("d", (Stratum("a", below=2), Stratum("b", below=2), Stratum("c"))),
        ("d", (Stratum("a", below=2), Stratum("a"))),
        ("d", (Stratum("a", below=2, up_to=2), Stratum("b"))),
        ("d", (*(Stratum(str(n), below=n) for n in range(20)), Stratum("last"))),
    ],
)
def test_strata_must_cover_every_number_once(stratify_by: str | None, strata: tuple[Stratum, ...]) -> None:
    assert refused(changes.new(draft(stratify_by=stratify_by, strata=strata))).reason is Refusal.BAD_STRATA


def test_a_plan_that_is_not_whole_is_refused_at_once() -> None:
    assert refused(changes.new(draft(plan={"control": 500_000}))).reason is Refusal.NOT_100_PERCENT


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Model Version Comparison", "model-version-comparison"),
        ("import_processing_mode", "import_processing_mode"),
        ("  Größe & Maß! ", "groe-ma"),
        ("2024", "experiment-2024"),
        ("実験", "experiment"),
        ("x" * 500, "x" * 90),
    ],
)
def test_a_key_comes_from_the_name(name: str, key: str) -> None:
    assert slug(name) == key


def test_a_definition_without_ids_cannot_be_published() -> None:
    with pytest.raises(ValueError, match="stored"):
        to_message(draft(id=None))

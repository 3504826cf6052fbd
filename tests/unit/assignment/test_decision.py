from __future__ import annotations

import msgspec
import pytest

from services.assignment.directory import Directory
from services.assignment.domain.bucketing import BUCKETS, bucket_of
from services.assignment.domain.changes import Patch, act, with_patch
from services.assignment.domain.decision import Memory, Reason, Rules
from services.assignment.domain.experiment import to_message
from services.assignment.domain.facts import Ids, exposure, exposure_id
from services.assignment.domain.lifecycle import Action
from services.assignment.memory import FirstAnswers
from shared.messages import Allocation, Experiment, Variant
from shared.topics import EVENTS, EXPERIMENTS
from tests.unit.assignment.definitions import S0_STRATA, accepted, draft, running

UNITS = [f"user-{n}" for n in range(2_000)]


def rules(**fields: object) -> Rules:
    return Rules(to_message(running(**fields)))


def test_a_unit_gets_the_variant_of_its_bucket() -> None:
    plain = rules()
    for unit in UNITS:
        placed = plain.place(unit, {})
        assert placed.bucket == bucket_of("imports", unit)
        assert placed.variant.name == ("realtime" if placed.bucket < 500_000 else "background")
        assert not placed.ambiguous


def test_s0s_long_imports_favour_the_background() -> None:
    stratified = rules(stratify_by="estimatedDuration", strata=S0_STRATA)

    def background_share(milliseconds: float) -> float:
        placed = [stratified.place(unit, {"estimatedDuration": milliseconds}) for unit in UNITS]
        return sum(p.variant.name == "background" for p in placed) / len(UNITS)

    assert abs(background_share(300_000) - 0.5) < 0.04
    assert abs(background_share(300_001) - 0.55) < 0.04
    assert background_share(300_001) > background_share(300_000) == background_share(1_000)


def test_a_unit_is_looked_up_only_where_strata_differ() -> None:
    stratified = rules(stratify_by="estimatedDuration", strata=S0_STRATA)
    for unit in UNITS:
        placed = stratified.place(unit, {"estimatedDuration": 1})
        assert placed.ambiguous == (450_000 <= placed.bucket < 500_000)


@pytest.mark.parametrize("value", [None, "400000", True, [400_000], {"a": 1}])
def test_what_is_no_number_picks_no_stratum(value: object) -> None:
    stratified = rules(stratify_by="estimatedDuration", strata=S0_STRATA)
    assert stratified.place("u", {"estimatedDuration": value}).stratum is None
    assert stratified.place("u", {}).stratum is None


def test_after_a_new_split_only_moved_units_are_looked_up_and_their_old_variant_is_known() -> None:
    before = running()
    changed = Rules(to_message(accepted(with_patch(before, Patch(plan={"control": 600_000, "treatment": 400_000})))))
    old = Rules(to_message(before))
    for unit in UNITS:
        placed, was = changed.place(unit, {}), old.place(unit, {})
        assert placed.ambiguous == (placed.variant.name != was.variant.name)
        assert placed.before.name == was.variant.name


def test_only_a_started_experiment_remembers() -> None:
    started = running()
    paused = accepted(act(started, Action.PAUSE, 1))
    ended = accepted(act(started, Action.COMPLETE, 1))
    modes = [Rules(to_message(d)).memory for d in (draft(), started, paused, ended)]
    assert modes == [Memory.NONE, Memory.FIRST_ANSWER, Memory.EXISTING_ONLY, Memory.NONE]
    assert Rules(to_message(ended)).not_running is Reason.COMPLETED


def test_the_published_definition_decides_like_the_stored_one_after_its_journey() -> None:
    message = to_message(running(stratify_by="estimatedDuration", strata=S0_STRATA))
    travelled = Rules(EXPERIMENTS.decode(EXPERIMENTS.encode(message)))
    here = Rules(message)
    for unit in UNITS[:200]:
        assert travelled.place(unit, {"estimatedDuration": 300_000}) == here.place(
            unit, {"estimatedDuration": 300_000}
        )


def test_the_order_of_variants_decides_even_if_a_json_object_lost_its_order() -> None:
    message = to_message(running(stratify_by="estimatedDuration", strata=S0_STRATA))
    changed = msgspec.structs.replace(
        message, earlier=(Allocation(buckets={"realtime": 600_000, "background": 400_000}),)
    )
    shuffled = msgspec.structs.replace(
        changed,
        strata=tuple(msgspec.structs.replace(s, buckets=dict(reversed(s.buckets.items()))) for s in changed.strata),
        earlier=(Allocation(buckets={"background": 400_000, "realtime": 600_000}),),
    )
    one, other = Rules(changed), Rules(shuffled)
    for unit in UNITS:
        assert one.place(unit, {"estimatedDuration": 9e9}) == other.place(unit, {"estimatedDuration": 9e9})


def test_an_exposure_has_the_same_id_every_time_and_another_for_anything_else() -> None:
    message = to_message(running())
    control, treatment = message.variants
    once = exposure_id(message, "u", control)
    assert exposure_id(message, "u", control) == once
    others = {
        exposure_id(message, "v", control),
        exposure_id(message, "u", treatment),
        exposure_id(to_message(running(salt="other")), "u", control),
        exposure_id(to_message(running(id=2)), "u", control),
    }
    assert len(others | {once}) == 5


def test_an_exposure_carries_what_attribution_needs() -> None:
    definition = running(unit="job", stratify_by="estimatedDuration", strata=S0_STRATA)
    message = to_message(definition)
    placed = Rules(message).place("j1", {"estimatedDuration": 5})
    event = exposure(message, placed, placed.variant, "j1", Ids(user="7", job="j1"), {"estimatedDuration": 5}, 123)
    assert EVENTS.key(event) == "7"
    assert (event.job_id, event.user_id, event.time, event.received_at) == ("j1", "7", 123, 123)
    assert event.properties == {
        "experiment": "imports",
        "experiment_id": 1,
        "version": 1,
        "variant": placed.variant.name,
        "unit_kind": "job",
        "unit": "j1",
        "stratum": "<2 min",
    }


def a_message(**fields: object) -> Experiment:
    base = {
        "organisation": "default",
        "id": 1,
        "key": "k",
        "name": "K",
        "version": 1,
        "status": "running",
        "unit": "user",
        "salt": "k",
        "variants": (
            Variant(id=1, name="a", type="control", buckets=BUCKETS // 2),
            Variant(id=2, name="b", type="treatment", buckets=BUCKETS // 2),
        ),
    }
    return Experiment(**{**base, **fields})  # type: ignore[arg-type]


def test_the_directory_keeps_the_higher_version() -> None:
    directory = Directory()
    for version in (2, 3, 1):
        directory.learn(a_message(version=version))
    found = directory.find("default", "k")
    assert found is not None
    assert found.rules.experiment.version == 3
    assert directory.find("default", 1) is directory.find("default", "1") is found


def test_an_experiment_of_another_organisation_cannot_be_found() -> None:
    directory = Directory()
    directory.learn(a_message())
    assert directory.find("other", 1) is directory.find("other", "k") is None


def test_the_directory_survives_what_it_cannot_decide_by() -> None:
    directory = Directory()
    directory.learn(a_message(variants=()))
    assert directory.find("default", 1) is None


def test_an_id_that_was_given_anew_belongs_to_the_later_experiment() -> None:
    directory = Directory()
    directory.learn(a_message(version=9))
    directory.learn(a_message(key="anew"))
    found = directory.find("default", 1)
    assert found is not None
    assert found.rules.experiment.key == "anew"


def test_the_least_recently_used_unit_is_forgotten() -> None:
    memory = FirstAnswers(2)
    memory.put(1, "a", 10)
    memory.put(1, "b", 11)
    assert memory.get(1, "a") == 10
    memory.put(1, "c", 12)
    assert [memory.get(1, unit) for unit in "abc"] == [10, None, 12]
    memory.forget(1, "a")
    assert memory.get(1, "a") is None

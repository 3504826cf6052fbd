from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.assignment.domain.bucketing import BUCKETS, bucket_of
from services.assignment.domain.switches import Hold, Off, Switchboard, Verdict, experiment_admission_bucket
from shared.messages import Switch
from shared.topics import SWITCHES


def switch(cause: str = "manual", *, off: bool = True, at: int = 1, **fields: Any) -> Switch:
    return Switch(organisation="default", flag="f", cause=cause, off=off, decided_at=at, **fields)


def board(*switches: Switch) -> Switchboard:
    fresh = Switchboard()
    for each in switches:
        fresh.apply(each)
    return fresh


def hold(*switches: Switch) -> Hold:
    found = board(*switches).hold("default", "f")
    assert found is not None
    return found


def blocked(judged: Off | Verdict) -> str:
    assert isinstance(judged, Off), judged
    return judged.cause


@pytest.mark.parametrize(
    ("admit_from", "admit_to", "admitted", "refused"),
    [
        (0, 1, [0], [1, BUCKETS - 1]),
        (0, 100_000, [0, 99_999], [100_000, BUCKETS - 1]),
        (100_000, 200_000, [100_000, 199_999], [0, 99_999, 200_000]),
        (BUCKETS - 1, BUCKETS, [BUCKETS - 1], [0, BUCKETS - 2]),
        (0, BUCKETS, [0, BUCKETS - 1], []),
        (0, 0, [], [0, 1, BUCKETS - 1]),
        (5, 5, [], [4, 5, 6]),
        (7, 3, [], [2, 3, 5, 7, 8]),
    ],
)
def test_a_range_admits_its_first_bucket_and_not_the_one_behind_its_last(
    admit_from: int, admit_to: int, admitted: list[int], refused: list[int]
) -> None:
    held = hold(switch(admit_from=admit_from, admit_to=admit_to))
    assert [held.judge(bucket) for bucket in admitted] == [Verdict.PROBE] * len(admitted)
    assert [blocked(held.judge(bucket)) for bucket in refused] == ["manual"] * len(refused)


def test_without_a_unit_nobody_passes_whatever_the_range() -> None:
    assert blocked(hold(switch()).judge(None)) == "manual"
    assert blocked(hold(switch(admit_from=5, admit_to=5)).judge(None)) == "manual"
    assert blocked(hold(switch(admit_from=0, admit_to=BUCKETS)).judge(None)) == "manual"


def test_a_unit_passes_only_if_every_cause_admits_it() -> None:
    held = hold(switch("a", at=1, admit_from=0, admit_to=200), switch("b", at=2, admit_from=100, admit_to=300))
    assert blocked(held.judge(99)) == "b"
    assert held.judge(100) is held.judge(199) is Verdict.PROBE
    assert blocked(held.judge(200)) == "a"
    assert blocked(held.judge(300)) == "a", "of two that keep it out, the older one is named"
    assert blocked(held.judge(None)) == "a"
    shut = hold(switch("a", at=1, admit_from=0, admit_to=BUCKETS), switch("b", at=2))
    assert blocked(shut.judge(0)) == "b"


def test_it_is_off_until_the_last_cause_lets_go() -> None:
    three = [switch(cause) for cause in ("a", "b", "manual")]
    both = board(*three, switch("b", off=False))
    assert [off.cause for off in (both.hold("default", "f") or hold()).offs] == ["a", "manual"]
    assert len(both) == 2
    none = board(*three, *(switch(cause, off=False) for cause in ("b", "manual", "a")))
    assert none.hold("default", "f") is None
    assert len(none) == 0
    none.apply(switch("a", off=False))
    assert none.hold("default", "f") is None


def test_when_an_outage_began_is_known_from_its_last_record_alone() -> None:
    probing = msgspec.structs.replace(switch(at=60, admit_from=0, admit_to=5), off_since=1)
    assert hold(probing).offs[0].since == 1
    assert hold(switch(at=60)).offs[0].since == 60


def test_the_last_record_counts_whatever_its_clock_says() -> None:
    assert board(switch(at=100), switch(off=False, at=1)).hold("default", "f") is None
    assert hold(switch(off=False, at=100), switch(at=1)).offs[0].decided_at == 1


def test_off_since_is_the_first_record_of_the_outage() -> None:
    (off,) = hold(switch(at=5), switch(at=7, admit_from=0, admit_to=10), switch(at=9)).offs
    assert (off.since, off.decided_at, off.half_open) == (5, 9, False)
    (again,) = hold(switch(at=5), switch(off=False, at=6), switch(at=8)).offs
    assert again.since == 8


def test_a_variants_switch_concerns_nobody_else() -> None:
    held = hold(switch(variant="b"))
    assert blocked(held.judge(0, "b")) == "manual"
    assert held.judge(0, "a") is held.judge(0) is held.judge(None) is Verdict.CLEAR
    whole = hold(switch(variant="b", at=1), switch("breaker:x", at=2))
    assert blocked(whole.judge(0, "a")) == blocked(whole.judge(0)) == "breaker:x"
    assert blocked(whole.judge(0, "b")) == "manual"


def test_one_cause_may_hold_several_variants() -> None:
    both = board(switch(variant="a"), switch(variant="b"), switch(variant="a", off=False))
    held = both.hold("default", "f")
    assert held is not None
    assert [off.variant for off in held.offs] == ["b"]


def test_organisations_and_keys_are_apart() -> None:
    two = board(switch(), Switch(organisation="acme", flag="f", cause="manual", off=True, decided_at=1))
    two.apply(switch(off=False))
    assert two.hold("default", "f") is None
    assert two.hold("acme", "f") is not None
    assert [key for key, _ in two.of("acme")] == ["f"]
    assert list(two.of("default")) == []


records = st.builds(
    switch,
    st.sampled_from(["manual", "breaker:a", "breaker:b"]),
    off=st.booleans(),
    at=st.integers(1, 9),
    variant=st.sampled_from([None, "a", "b"]),
)


@given(st.lists(records, max_size=30))
def test_what_compaction_leaves_is_the_same_state(history: list[Switch]) -> None:
    last = {SWITCHES.key(record): number for number, record in enumerate(history)}
    left = [record for number, record in enumerate(history) if last[SWITCHES.key(record)] == number]

    def state(records: list[Switch]) -> set[tuple[str, str | None, int]]:
        held = board(*records).hold("default", "f")
        return set() if held is None else {(off.cause, off.variant, off.decided_at) for off in held.offs}

    assert state(history) == state(left)


def test_admission_to_an_experiment_does_not_follow_its_split() -> None:
    units = [f"u{n}" for n in range(4_000)]
    treated = [unit for unit in units if bucket_of("salt", unit) >= 500_000]
    admitted = [unit for unit in treated if experiment_admission_bucket("salt", unit) < 100_000]
    assert abs(len(admitted) / len(treated) - 0.1) < 0.02

"""The plans of simulated users."""

from __future__ import annotations

from examples.imports.domain.behaviour import ARRIVALS_END, FileChoice, UserPlan, draw_plan

_FILES = (
    FileChoice(weight=3, estimated_ms=20_000),
    FileChoice(weight=0, estimated_ms=900_000, whole_table=True),
    FileChoice(weight=1, estimated_ms=400_000),
    FileChoice(weight=1, estimated_ms=4_000, whole_table=True),
)


def _plans(count: int, seed: int = 1) -> list[UserPlan]:
    return [draw_plan(seed, index, nominal_seconds=45, files=_FILES) for index in range(count)]


def test_the_same_seed_gives_the_same_plans_and_another_seed_others() -> None:
    assert _plans(20) == _plans(20)
    assert _plans(20) != _plans(20, seed=2)


def test_a_plan_does_not_depend_on_how_many_users_there_are() -> None:
    assert _plans(5) == _plans(50)[:5]


def test_the_first_users_import_the_whole_tables_to_the_end() -> None:
    first, second = _plans(2)
    assert (first.file, second.file) == (1, 3)
    for plan in (first, second):
        assert plan.leaves_before is None
        assert not any(plan.abandons.values())


def test_a_file_without_weight_is_picked_by_nobody_else() -> None:
    assert all(plan.file != 1 for plan in _plans(500)[1:])


def test_more_users_abandon_when_they_have_to_wait_and_nobody_only_in_the_background() -> None:
    plans = _plans(3_000)
    realtime = sum(plan.abandons["realtime"] for plan in plans)
    background = sum(plan.abandons["background"] for plan in plans)
    assert 0.03 * 3_000 < background < realtime < 0.2 * 3_000
    assert all(plan.abandons["realtime"] for plan in plans if plan.abandons["background"])


def test_users_arrive_early_enough_to_finish() -> None:
    assert max(plan.arrives for plan in _plans(500)) <= ARRIVALS_END * 45


def test_the_network_misbehaves_as_often_as_it_is_said_to() -> None:
    plans = _plans(3_000)
    steps = sum(len(plan.network.resent) + len(plan.network.doubled) for plan in plans) / (10 * len(plans))
    assert 0.05 < steps < 0.10
    offline = [plan.network.offline_hours for plan in plans if plan.network.offline_hours is not None]
    assert 0.005 < len(offline) / len(plans) < 0.02
    assert all(26 <= hours <= 30 for hours in offline)
    assert any(plan.network.malformed for plan in plans)
    assert any(plan.network.held for plan in plans)


def test_a_notification_is_clicked_only_after_it_was_opened() -> None:
    assert all(plan.opens_notification for plan in _plans(500) if plan.clicks_notification)


def test_most_diverted_users_come_back_a_few_times_and_some_never() -> None:
    returns = [plan.returns for plan in _plans(500)]
    assert 0.1 < sum(not looks for looks in returns) / len(returns) < 0.3
    assert all(0.5 < wait < 3 for looks in returns for wait in looks)
    assert all(sum(looks) > 6 for looks in returns if looks)

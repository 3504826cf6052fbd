import pytest

from deploy.local.restarts import Failures, RestartPolicy, Verdict, after_death

POLICY = RestartPolicy(first_delay=0.1, factor=2.0, longest_delay=1.0, healthy_after=20.0, attempts=3)


def delays_of_deaths_in_a_row(count: int, ready_for: float | None) -> list[float]:
    failures, delays = Failures(was_ready=True), []
    for _ in range(count):
        decision = after_death(POLICY, failures, ready_for)
        failures = decision.failures
        delays.append(decision.delay)
    return delays


def test_the_first_restart_comes_at_once_and_the_next_ones_wait_longer_up_to_a_bound() -> None:
    assert delays_of_deaths_in_a_row(6, ready_for=1.0) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_a_healthy_while_clears_the_record() -> None:
    decision = after_death(POLICY, Failures(in_a_row=5, was_ready=True), ready_for=20.0)
    assert decision.delay == pytest.approx(0.1)
    assert decision.failures == Failures(in_a_row=1, was_ready=True)


def test_a_process_that_never_became_ready_is_given_up_after_the_allowed_attempts() -> None:
    failures, verdicts = Failures(), []
    for _ in range(3):
        decision = after_death(POLICY, failures, ready_for=None)
        failures = decision.failures
        verdicts.append(decision.verdict)
    assert verdicts == [Verdict.AGAIN, Verdict.AGAIN, Verdict.GIVE_UP]


def test_a_process_that_was_ready_once_is_never_given_up() -> None:
    failures = after_death(POLICY, Failures(), ready_for=0.5).failures
    for _ in range(50):
        decision = after_death(POLICY, failures, ready_for=None)
        failures = decision.failures
        assert decision.verdict is Verdict.AGAIN


def test_thousands_of_deaths_do_not_overflow_the_delay() -> None:
    assert after_death(POLICY, Failures(in_a_row=100_000, was_ready=True), ready_for=None).delay == 1.0

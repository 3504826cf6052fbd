from __future__ import annotations

import pytest

from services.assignment.domain.lifecycle import Action, Refusal, Refused, Status, after

LEGAL = {
    (Status.DRAFT, Action.START): Status.RUNNING,
    (Status.PAUSED, Action.START): Status.RUNNING,
    (Status.RUNNING, Action.PAUSE): Status.PAUSED,
    (Status.RUNNING, Action.COMPLETE): Status.COMPLETED,
    (Status.PAUSED, Action.COMPLETE): Status.COMPLETED,
    (Status.RUNNING, Action.FAIL): Status.FAILED,
    (Status.PAUSED, Action.FAIL): Status.FAILED,
    (Status.DRAFT, Action.CANCEL): Status.CANCELLED,
    (Status.RUNNING, Action.CANCEL): Status.CANCELLED,
    (Status.PAUSED, Action.CANCEL): Status.CANCELLED,
    (Status.COMPLETED, Action.ARCHIVE): Status.ARCHIVED,
    (Status.CANCELLED, Action.ARCHIVE): Status.ARCHIVED,
    (Status.FAILED, Action.ARCHIVE): Status.ARCHIVED,
}
ILLEGAL = [(s, a) for s in Status for a in Action if (s, a) not in LEGAL]
REASONS = {
    Action.START: Refusal.START_NEEDS_DRAFT,
    Action.PAUSE: Refusal.PAUSE_NEEDS_RUNNING,
    Action.COMPLETE: Refusal.END_NEEDS_STARTED,
    Action.FAIL: Refusal.END_NEEDS_STARTED,
    Action.CANCEL: Refusal.CANCEL_NEEDS_UNENDED,
    Action.ARCHIVE: Refusal.ARCHIVE_NEEDS_ENDED,
}


@pytest.mark.parametrize(("status", "action"), LEGAL)
def test_a_legal_step_leads_to_its_state(status: Status, action: Action) -> None:
    assert after(action, status) is LEGAL[status, action]


@pytest.mark.parametrize(("status", "action"), ILLEGAL)
def test_an_illegal_step_is_refused_with_reason_and_sentence(status: Status, action: Action) -> None:
    refused = after(action, status)
    assert isinstance(refused, Refused)
    assert refused.reason is REASONS[action]
    assert status.value.upper() in refused.detail
    assert action.value in refused.detail


def test_an_archived_experiment_stays_archived() -> None:
    assert all(isinstance(after(action, Status.ARCHIVED), Refused) for action in Action)

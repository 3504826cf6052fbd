"""What an answer means, and how long to wait after it."""

from __future__ import annotations

import pytest

from services.alerting.channels.attempt import MAX_RETRY_AFTER, Outcome, of_http, of_smtp, seconds_asked
from services.alerting.channels.retry import Patience
from shared.clock import SECOND

NOON = 1_767_355_200 * SECOND
"""2026-01-02 12:00:00 UTC."""


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_success_is_delivered(status: int) -> None:
    assert of_http(status, None, now=NOON) == (Outcome.DELIVERED, None)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_trouble_of_the_receiver_is_retryable_at_the_time_it_asks_for(status: int) -> None:
    assert of_http(status, "30", now=NOON) == (Outcome.RETRYABLE, 30.0)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 410, 413, 422])
def test_refusals_and_redirects_are_permanent(status: int) -> None:
    assert of_http(status, "30", now=NOON) == (Outcome.PERMANENT, None)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (250, Outcome.DELIVERED),
        (421, Outcome.RETRYABLE),
        (451, Outcome.RETRYABLE),
        (535, Outcome.PERMANENT),
        (550, Outcome.PERMANENT),
        (-1, Outcome.RETRYABLE),
        (354, Outcome.RETRYABLE),
    ],
)
def test_smtp_replies_say_whether_to_come_again(code: int, outcome: Outcome) -> None:
    assert of_smtp(code) is outcome


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("3600", 3600.0),
        ("3601", MAX_RETRY_AFTER),
        ("9" * 5_000, MAX_RETRY_AFTER),
        ("Fri, 02 Jan 2026 12:01:30 GMT", 90.0),
        ("Fri, 02 Jan 2026 12:01:30 -0000", 90.0),
        ("Fri, 02 Jan 2026 14:00:00 +0200", 0.0),
        ("Fri, 02 Jan 2026 11:00:00 GMT", 0.0),
        ("Fri, 02 Jan 2099 11:00:00 GMT", MAX_RETRY_AFTER),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("²", None),
        ("Fri, 99 Jan 2026 12:01:30 GMT", None),
        ("Fri, 02 Jan 99999999999999999999 12:01:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(header: str | None, seconds: float | None) -> None:
    assert seconds_asked(header, now=NOON) == seconds


def test_delays_double_from_a_second_to_a_minute() -> None:
    delays = [Patience().delay(n, None, 0.5) for n in range(1, 10)]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert Patience().delay(100_000, None, 0.5) == 60


def test_jitter_spreads_a_delay_to_both_sides() -> None:
    assert Patience().delay(1, None, 0.0) == pytest.approx(0.8)
    assert Patience().delay(1, None, 0.999999) == pytest.approx(1.2, rel=1e-4)


def test_a_receiver_gets_the_time_it_asks_for_but_is_not_hammered() -> None:
    assert Patience().delay(9, 5.0, 0.9) == 5.0
    assert Patience().delay(1, 3600.0, 0.1) == 3600.0
    assert Patience().delay(5, 0.0, 0.1) == 1.0


def test_nobody_else_may_send_while_an_attempt_can_be_under_way() -> None:
    assert Patience().lease > Patience().timeout

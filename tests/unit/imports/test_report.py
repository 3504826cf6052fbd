"""What people read."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console, Group, RenderableType

from examples.imports.domain.comparison import Counted, VariantCounted, compare
from examples.imports.domain.inbox import Received
from examples.imports.domain.journeys import Journeys
from examples.imports.domain.ledger import Ledger, Outcome, Truth, VariantTruth
from examples.imports.domain.valve import BreakerReport, FlagState, Valve
from examples.imports.progress import Phase, Progress
from examples.imports.report import live_view, messages_view, result_view, status_line

_JOURNEYS = Journeys(200, 180, 5, 15)
_TRUTH = Truth(1_000, 9, 9, 3, 2, 0, {"realtime": VariantTruth(200, 180, 250.0, _JOURNEYS)}, 40, 4)
_COUNTED = Counted(998, 2, 9, 3, {"realtime": VariantCounted(200, 180, 250.0, _JOURNEYS)})
_VALVE = Valve(2, 2, BreakerReport("closed", 2, 2), (300.0, 500.0), {"slack": 4, "pagerduty": 4, "email": 4}, 1)
_MESSAGES = [
    Received("slack", "trigger", "critical", "Import circuit breaker: open", "", "", 0, ""),
    Received("slack", "resolve", "critical", "Import circuit breaker: closed", "", "", 8_000_000, ""),
]


def _text(view: RenderableType) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(view)
    return captured.get()


def test_a_result_shows_units_rate_interval_and_the_truth_beside_it() -> None:
    text = _text(result_view(compare(_TRUTH, _COUNTED, _VALVE)))
    assert text.count("10.0%") == 2
    assert text.count("6.6–14.9%") == 2
    assert "1,000" in text
    assert "✗" not in text


def test_a_difference_is_marked() -> None:
    text = _text(result_view(compare(_TRUTH, replace(_COUNTED, counted=997), _VALVE)))
    assert text.count("✗") == 1


def test_every_column_fits_on_a_hundred_characters() -> None:
    assert "…" not in _text(result_view(compare(_TRUTH, _COUNTED, _VALVE)))


def test_a_result_shows_the_breaker_its_latency_and_what_was_shortened() -> None:
    text = _text(result_view(compare(_TRUTH, _COUNTED, _VALVE)))
    assert "40 / 4" in text
    assert "400.0 ms" in text
    assert "500.0 ms" in text
    assert "after 5 s (shipped: 1800 s)" in " ".join(text.split())
    assert "5000 ms (shipped: 60000 ms)" in " ".join(text.split())


def test_messages_are_one_line_each() -> None:
    lines = _text(Group(*messages_view({"slack": _MESSAGES}))).splitlines()
    assert [line.split() for line in lines] == [
        ["slack", "00:00:00", "trigger", "critical:", "Import", "circuit", "breaker:", "open"],
        ["slack", "00:00:08", "resolve", "critical:", "Import", "circuit", "breaker:", "closed"],
    ]


def test_a_message_without_a_title_is_shown_by_what_it_resolves() -> None:
    resolved = Received("pagerduty", "resolve", "", "", "default/breaker:b/1", "default/breaker:b/1", 0, "")
    assert "resolve  default/breaker:b/1" in _text(Group(*messages_view({"pagerduty": [resolved]})))


def test_progress_shows_the_breaker_and_its_messages() -> None:
    progress = Progress(
        diverted=12,
        failing=True,
        flag=FlagState.OFF,
        breaker=BreakerReport("open", 3, 2),
        messages={"slack": 5},
        last_messages={"slack": _MESSAGES},
    )
    assert "breaker open (3 ×), flag off, 12 users diverted; messages slack 5" in status_line(progress)
    view = _text(live_view(progress))
    assert "open" in view
    assert "trigger" in view


def test_progress_shows_users_events_lag_and_variants() -> None:
    ledger = Ledger(("realtime", "background"))
    ledger.assigned("u", "realtime")
    ledger.delivered(["a", "b", "c"], Outcome.ACKNOWLEDGED)
    progress = Progress(experiment_key="key", phase=Phase.RUNNING, users=40, done=10, active=5, counted=1)
    progress.observe(10.0, ledger.truth())
    ledger.delivered([f"e{n}" for n in range(20)], Outcome.ACKNOWLEDGED)
    progress.observe(12.0, ledger.truth())
    assert progress.rate() == 10.0
    assert progress.lag == 22
    line = status_line(progress)
    assert "10/40 done" in line
    assert "23 accepted (10/s)" in line
    assert "lag 22" in line
    view = _text(live_view(progress))
    assert "10/40 users" in view
    assert "realtime" in view

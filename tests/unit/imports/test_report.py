"""What people read."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console, RenderableType

from examples.imports.domain.comparison import Counted, VariantCounted, compare
from examples.imports.domain.ledger import Ledger, Outcome, Truth, VariantTruth
from examples.imports.progress import Phase, Progress
from examples.imports.report import live_view, result_view, status_line

_TRUTH = Truth(1_000, 9, 9, 3, 2, 0, {"realtime": VariantTruth(200, 180, 250.0)})
_COUNTED = Counted(998, 2, 9, 3, {"realtime": VariantCounted(200, 180, 250.0)})


def _text(view: RenderableType) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(view)
    return captured.get()


def test_a_result_shows_units_rate_interval_and_the_truth_beside_it() -> None:
    text = _text(result_view(compare(_TRUTH, _COUNTED)))
    assert text.count("10.0%") == 2
    assert text.count("6.6–14.9%") == 2
    assert "1,000" in text
    assert "✗" not in text


def test_a_difference_is_marked() -> None:
    text = _text(result_view(compare(_TRUTH, replace(_COUNTED, counted=997))))
    assert text.count("✗") == 1


def test_every_column_fits_on_a_hundred_characters() -> None:
    assert "…" not in _text(result_view(compare(_TRUTH, _COUNTED)))


def test_progress_shows_users_events_lag_and_variants() -> None:
    ledger = Ledger(("realtime", "background"))
    ledger.assigned("u", "realtime")
    ledger.delivered(["a", "b", "c"], Outcome.ACKNOWLEDGED)
    progress = Progress(experiment_key="key", phase=Phase.RUNNING, users=40, done=10, active=5, counted=1)
    progress.observe(10.0, ledger)
    ledger.delivered([f"e{n}" for n in range(20)], Outcome.ACKNOWLEDGED)
    progress.observe(12.0, ledger)
    assert progress.rate() == 10.0
    assert progress.lag == 22
    line = status_line(progress)
    assert "10/40 done" in line
    assert "23 accepted (10/s)" in line
    assert "lag 22" in line
    view = _text(live_view(progress))
    assert "10/40 users" in view
    assert "realtime" in view

"""Figures go to programs as rows of one shape, and to people as a table with ratios."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.results import Comparison, Measurement, write_json

FAST = Measurement("aggregator", "W1", "fast", "all of it", 1_000_000, 500.0, 250.0, 64 * 1024 * 1024)
SLOW = Measurement("aggregator", "W1", "slow", "nothing", 100, 1.0, 1.0, 32 * 1024 * 1024)


def test_every_figure_is_a_row_with_the_six_agreed_fields(tmp_path: Path) -> None:
    write_json(tmp_path / "out.json", Comparison([FAST, SLOW], "slow").figures())

    rows = json.loads((tmp_path / "out.json").read_text())
    assert {tuple(row) for row in rows} == {("bench", "workload", "system", "metric", "value", "unit")}
    assert {(r["bench"], r["workload"]) for r in rows} == {("aggregator", "W1")}
    of_fast = {r["metric"]: (r["value"], r["unit"]) for r in rows if r["system"] == "fast"}
    assert of_fast == {
        "events_per_s": (2_000.0, "events/s"),
        "cpu_per_event": (250.0, "µs"),
        "peak_memory": (64.0, "MiB"),
        "events": (1_000_000, "events"),
        "warm_up": (0, "events"),
        "ratio_to_slow": (20.0, "×"),
    }


def test_a_cold_run_beside_a_warm_one_is_named_so_and_a_lone_one_is_known_by_its_warm_up() -> None:
    warm = replace(FAST, seconds=250.0, warm_up=7)
    figures = Comparison([SLOW, FAST, warm], "slow").figures()

    rates = {(f.system, f.metric): f.value for f in figures if f.metric.endswith("events_per_s")}
    assert rates == {
        ("slow", "events_per_s"): 100.0,
        ("fast", "cold_events_per_s"): 2_000.0,
        ("fast", "events_per_s"): 4_000.0,
    }
    ratios = {(f.system, f.metric): f.value for f in figures if "ratio" in f.metric}
    assert ratios[("fast", "cold_ratio_to_slow")] == 20.0
    assert ratios[("fast", "ratio_to_slow")] == 40.0
    warm_ups = {(f.system, f.metric): f.value for f in figures if "warm_up" in f.metric}
    assert warm_ups == {("slow", "warm_up"): 0, ("fast", "cold_warm_up"): 0, ("fast", "warm_up"): 7}


def test_the_table_says_of_every_row_whether_it_is_cold_or_warm_and_after_how_much() -> None:
    shown = _text([SLOW, FAST, replace(FAST, warm_up=2_000)], baseline="slow")

    rows = [line.split() for line in shown.splitlines() if line.startswith("W1")]
    assert [row[1:3] for row in rows] == [["slow", "cold"], ["fast", "cold"], ["fast", "warm"]]
    assert "after 2,000 others" in shown
    assert "after" not in _text([SLOW, FAST], baseline="slow")


def test_the_table_shows_rates_as_multiples_of_the_baseline_and_what_each_guarantees() -> None:
    shown = _text([FAST, SLOW], baseline="slow")
    assert "1,000,000" in shown
    assert "2,000" in shown
    assert "20.0" in shown
    assert "fast: all of it" in shown
    assert "slow: nothing" in shown


def test_ratios_are_within_a_workload() -> None:
    other = replace(SLOW, workload="W2", seconds=2.0)
    ratios = [f.value for f in Comparison([FAST, SLOW, other], "slow").figures() if f.metric == "ratio_to_slow"]
    assert ratios == [20.0, 1.0, 1.0]


def test_what_was_left_out_is_told_with_the_reason() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(Comparison([FAST], "fast", {"slow": "no uv"}).table("aggregator"))
    assert "slow was left out: no uv" in captured.get()


def test_without_the_baseline_there_are_no_multiples() -> None:
    assert "20.0" not in _text([FAST], baseline="slow")


def _text(measurements: list[Measurement], *, baseline: str) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(Comparison(measurements, baseline).table("aggregator"))
    return captured.get()

"""`tidegate bench` says what there is, and what it does not know, before it starts anything."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from bench.catalogue import BENCHES
from tidegate.cli import app


def test_the_list_names_every_benchmark_and_its_systems() -> None:
    answer = CliRunner().invoke(app, ["bench", "--list"])
    assert answer.exit_code == 0
    for bench in BENCHES.values():
        assert bench.name in answer.output
        for system in bench.systems:
            assert system in answer.output


@pytest.mark.parametrize(
    "arguments", [["nope"], ["aggregator", "--system", "nope"], ["--system", "nope"], ["--workload", "nope"]]
)
def test_an_unknown_name_is_refused_before_anything_starts(arguments: list[str]) -> None:
    answer = CliRunner().invoke(app, ["bench", *arguments])
    assert answer.exit_code == 2
    assert "nope" in answer.output


def test_every_benchmark_runs_us_and_what_we_are_compared_with() -> None:
    for bench in BENCHES.values():
        assert {"tidegate", bench.baseline} <= set(bench.systems)

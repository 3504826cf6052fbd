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
    "arguments",
    [
        ["nope"],
        ["aggregator", "--system", "nope"],
        ["--system", "nope"],
        ["--workload", "nope"],
        ["ingest", "--workload", "nope"],
        ["ingest", "--peer", "nope"],
        ["ingest", "--peer", "nope=no-such-program {port}"],
        ["ingest", "--peer", "nope=http://127.0.0.1:1/", "--peer", "nope=http://127.0.0.1:2/"],
    ],
)
def test_an_unknown_name_is_refused_before_anything_starts(arguments: list[str]) -> None:
    answer = CliRunner().invoke(app, ["bench", *arguments])
    assert answer.exit_code == 2
    assert "nope" in answer.output


def test_every_benchmark_runs_us_and_what_we_are_compared_with() -> None:
    for bench in BENCHES.values():
        assert {"tidegate", bench.baseline} <= set(bench.systems)


def test_ours_is_no_name_for_a_peer() -> None:
    answer = CliRunner().invoke(app, ["bench", "ingest", "--peer", "tidegate=http://127.0.0.1:1/"])
    assert answer.exit_code == 2
    assert "two systems" in answer.output

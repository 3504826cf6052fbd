"""The run's experiment and metrics, accepted by the services that will take them."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.imports.definitions import load
from services.aggregator.domain.metrics import parse_definition
from services.assignment.domain.shares import check_strata
from services.assignment.schemas import CreateExperiment, VariantBody


def test_every_metric_is_a_valid_definition_under_the_run_s_key() -> None:
    definitions = load("run_1")
    assert len(definitions.metrics) >= 4
    for key, spec in definitions.metrics.items():
        assert key.startswith("run_1.")
        parse_definition("o", key, 1, spec)


def test_the_experiment_keeps_only_metrics_that_are_defined() -> None:
    definitions = load("run_1")
    assert definitions.experiment["key"] == "run_1"
    assert set(definitions.experiment["metrics"]) <= definitions.metrics.keys()


def test_the_split_is_even_up_to_five_minutes_and_favours_background_above() -> None:
    definitions = load("run_1")
    experiment = CreateExperiment(**definitions.experiment).to_domain("o")
    assert check_strata(experiment.stratify_by, experiment.strata) is None
    assert [stratum.shares for stratum in experiment.strata] == [
        {"realtime": 500_000, "background": 500_000},
        {"realtime": 500_000, "background": 500_000},
        {"realtime": 450_000, "background": 550_000},
    ]
    bounds = [stratum.bound for stratum in experiment.strata]
    assert bounds[0] == 120_000
    assert bounds[1] is not None
    assert 300_000 < bounds[1] < 300_001
    assert bounds[2] is None


def test_there_is_one_control_and_one_treatment() -> None:
    variants = [VariantBody(**body).to_domain() for body in load("run_1").variants]
    assert [(v.name, v.type, v.buckets) for v in variants] == [
        ("realtime", "control", 500_000),
        ("background", "treatment", 500_000),
    ]


def test_a_metric_that_is_not_defined_cannot_be_named() -> None:
    with pytest.raises(KeyError):
        load("run_1").metric("no_such_metric")


def test_another_placeholder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text("key: ${experiment}\nname: ${other}\nvariants: []\n")
    with pytest.raises(KeyError, match="other"):
        load("run_1", tmp_path)

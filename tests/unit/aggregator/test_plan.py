"""Which metrics and experiments are folded, and under which names."""

from __future__ import annotations

from typing import Any

import pytest

from services.aggregator.domain.kinds.by_unit import ByUnit
from services.aggregator.domain.plan import UnitSeries, WindowSeries, exposure_series, result_series
from shared.definition_error import DefinitionError
from tests.unit.aggregator.builders import ORGANISATION, definition, experiment, plan_of


def test_each_measure_has_a_series_that_names_its_version() -> None:
    plan = plan_of(
        definition("n", version=4, scale=2),
        definition("r", type="ratio", numerator={"event": "a"}, denominator={}),
    )
    assert plan.window_series() == [
        WindowSeries(ORGANISATION, "n", 4, "value", 2),
        WindowSeries(ORGANISATION, "r", 1, "numerator", 6),
        WindowSeries(ORGANISATION, "r", 1, "denominator", 6),
    ]
    assert [m.measure.component for m in plan.measures] == ["value", "numerator", "denominator"]


def test_an_experiment_counts_by_unit_the_metrics_it_lists() -> None:
    plan = plan_of(definition("listed", version=2), definition("other"), experiment(metrics=("listed", "undefined")))
    listed, other = plan.measures
    assert other.units == ()
    (unit_plan,) = listed.units
    assert unit_plan.series == UnitSeries(ORGANISATION, "x", "listed", 2, "value", 6)
    assert unit_plan.exposure == exposure_series(ORGANISATION, "x")
    assert (unit_plan.unit_kind, unit_plan.until) == ("user", None)


def test_limits_and_covariates_of_units_follow_from_the_definition() -> None:
    spec: dict[str, Any] = {
        "winsorise": {"lower": -1, "upper": 2.5},
        "covariate_days": 7,
        "aggregations": ["p95"],
        "scale": 1,
    }
    value = definition("v", type="value", value="properties.v", **spec)
    plan = plan_of(value, experiment(metrics=("v",)))
    assert plan.measures[0].units[0].series.by_unit == ByUnit(-10, 25, 7, sketched=True)


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"winsorise": {}}, "spec.winsorise"),
        ({"winsorise": 5}, "spec.winsorise"),
        ({"winsorise": {"low": 5}}, "spec.winsorise.low"),
        ({"winsorise": {"lower": "5"}}, "spec.winsorise.lower"),
        ({"winsorise": {"lower": True}}, "spec.winsorise.lower"),
        ({"winsorise": {"upper": 1e300}}, "spec.winsorise.upper"),
        ({"winsorise": {"upper": float("nan")}}, "spec.winsorise.upper"),
        ({"winsorise": {"lower": 2, "upper": 1}}, "spec.winsorise"),
        ({"covariate_days": 31}, "spec.covariate_days"),
        ({"covariate_days": -1}, "spec.covariate_days"),
        ({"covariate_days": 1.5}, "spec.covariate_days"),
    ],
)
def test_limits_that_mean_nothing_are_refused_where_they_stand(spec: dict[str, Any], place: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        definition("v", **spec)
    assert refused.value.place == place


def test_a_segment_that_we_cannot_read_is_left_out() -> None:
    plan = plan_of(experiment(segments=("context.net", "who knows")))
    assert [str(path) for path in plan.experiments[ORGANISATION, "x"].segments] == ["context.net"]
    assert plan.projection.context == frozenset({"net"})


def test_another_organisations_experiment_does_not_use_a_metric_of_the_same_key() -> None:
    plan = plan_of(definition("m"), experiment(organisation="other", metrics=("m",)))
    assert plan.measures[0].units == ()
    assert set(plan.experiments) == {("other", "x")}


@pytest.mark.parametrize("status", ["draft", "cancelled"])
def test_what_never_began_counts_nothing(status: str) -> None:
    plan = plan_of(definition("m"), experiment(metrics=("m",), status=status))
    assert plan.experiments == {}
    assert plan.measures[0].units == ()


@pytest.mark.parametrize("status", ["running", "paused", "completed", "archived"])
def test_what_has_begun_is_checked_against_its_variants_metrics_and_end(status: str) -> None:
    plan = plan_of(experiment(unit="job", metrics=("m",), status=status, ended_at=77))
    found = plan.experiments[ORGANISATION, "x"]
    assert found.variants == {"control", "treatment"}
    assert found.metrics == {"m"}
    assert (found.unit_kind, found.until) == ("job", 77)


def test_exposures_and_results_have_series_of_their_own() -> None:
    assert exposure_series("o", "x") == UnitSeries("o", "x", "", 1, "value", 0)
    assert result_series("o", "x", "revenue") == UnitSeries("o", "x", "revenue", 0, "value", 6)


def test_a_metric_taken_on_later_never_adds_to_results_recorded_under_its_name() -> None:
    plan = plan_of(definition("revenue", version=1, scale=2), experiment(metrics=("revenue",)))
    (unit_plan,) = plan.measures[0].units
    recorded = result_series(ORGANISATION, "x", "revenue")
    identity = ("organisation", "experiment", "metric", "version", "component")
    assert any(getattr(unit_plan.series, name) != getattr(recorded, name) for name in identity)

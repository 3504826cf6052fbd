"""The run's experiment and metrics, accepted by the services that will take them."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.imports.definitions import Addresses, Definitions, load
from services.aggregator.domain.metrics import parse_definition
from services.alerting.channels.spec import EmailChannel, PagerDutyChannel, SlackChannel, parse_channel
from services.alerting.domain.breaker import parse_breaker
from services.alerting.domain.rule import parse_rule
from services.assignment.domain.flags import parse_flag
from services.assignment.domain.shares import check_strata
from services.assignment.schemas import CreateExperiment, VariantBody

_ADDRESSES = Addresses("http://127.0.0.1:1/hook", "http://127.0.0.1:1/v2/enqueue", "0" * 32, "127.0.0.1", 2525)


@pytest.fixture
def definitions() -> Definitions:
    return load("1", _ADDRESSES)


def test_every_metric_is_a_valid_definition_under_the_run_s_key(definitions: Definitions) -> None:
    metrics = definitions.specs("metric")
    assert len(metrics) >= 6
    for key, spec in metrics.items():
        assert key.startswith("import_processing_mode_1.")
        parse_definition("o", key, 1, spec)


def test_the_experiment_keeps_only_metrics_that_are_defined(definitions: Definitions) -> None:
    assert definitions.experiment["key"] == definitions.experiment_key == "import_processing_mode_1"
    assert set(definitions.experiment["metrics"]) <= definitions.specs("metric").keys()


def test_the_breaker_is_s1_s_but_for_its_timeout_and_switches_the_run_s_own_flag(definitions: Definitions) -> None:
    document = definitions.breaker
    breaker = parse_breaker("o", document.key, 1, document.spec)
    assert (breaker.failure_threshold, breaker.timeout, breaker.recovery_attempts) == (10, 5_000_000, 3)
    assert breaker.metric == definitions.metric("import_streak")
    assert breaker.flag == "data_import_enabled_1"
    parse_flag("o", breaker.flag, 1, definitions.specs("flag")[breaker.flag])


def test_the_failure_rate_has_s1_s_thresholds(definitions: Definitions) -> None:
    ((key, spec),) = definitions.specs("rule").items()
    rule = parse_rule("o", key, 1, spec)
    assert rule.metric == definitions.metric("import_failure_ratio")
    assert [spec[field] for field in ("warning", "critical", "minimum_sample", "window")] == ["5%", "10%", 20, "2h"]


def test_rule_and_breaker_tell_the_run_s_own_channels(definitions: Definitions) -> None:
    channels = definitions.specs("channel")
    kinds = [type(parse_channel(spec)) for spec in channels.values()]
    assert kinds == [SlackChannel, PagerDutyChannel, EmailChannel]
    for kind in ("rule", "breaker"):
        for spec in definitions.specs(kind).values():
            assert set(spec["notify"]) == channels.keys()


def test_what_others_refer_to_is_sent_first(definitions: Definitions) -> None:
    kinds = [document.kind for document in definitions.documents]
    assert list(dict.fromkeys(kinds)) == ["metric", "flag", "channel", "rule", "breaker"]


def test_an_import_counts_as_abandoned_after_five_seconds(definitions: Definitions) -> None:
    assert definitions.journey_seconds == 5


def test_the_split_is_even_up_to_five_minutes_and_favours_background_above(definitions: Definitions) -> None:
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


def test_there_is_one_control_and_one_treatment(definitions: Definitions) -> None:
    variants = [VariantBody(**body).to_domain() for body in definitions.variants]
    assert [(v.name, v.type, v.buckets) for v in variants] == [
        ("realtime", "control", 500_000),
        ("background", "treatment", 500_000),
    ]


def test_a_metric_that_is_not_defined_cannot_be_named(definitions: Definitions) -> None:
    with pytest.raises(KeyError):
        definitions.metric("no_such_metric")


def test_another_placeholder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text("key: ${experiment}\nname: ${other}\nvariants: []\n")
    with pytest.raises(KeyError, match="other"):
        load("1", _ADDRESSES, tmp_path)

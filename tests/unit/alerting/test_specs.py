"""What users may write as a rule or breaker, and that every preset is such."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import deploy
from services.aggregator.domain.metrics import parse_definition
from services.alerting.domain.breaker import parse_breaker
from services.alerting.domain.metric import Unreadable, aggregation_of, shape_of
from services.alerting.domain.rule import Level, Notify, parse_rule
from services.alerting.domain.spec import canonical
from services.assignment.domain.flags import parse_flag
from shared.clock import DAY, HOUR, MINUTE, SECOND
from shared.definition_error import DefinitionError
from tests.unit.alerting.scenes import breaker, rule
from tidegate.definitions import find_files, in_order, parse

RULE: dict[str, Any] = {"metric": "m", "direction": "above", "warning": 1}
BREAKER: dict[str, Any] = {"metric": "m", "flag": "f"}


def test_a_rule_that_says_little_means_the_defaults() -> None:
    made = parse_rule("acme", "r", 1, RULE)
    assert (made.window, made.hold, made.every, made.minimum_sample) == (2 * HOUR, 0, 0, 1)
    assert (made.aggregation, made.group, made.alert_type, made.enabled) == (None, None, "threshold", True)
    assert made.notify == Notify(warning=None, critical=None)


def test_a_breaker_that_says_little_is_the_one_of_the_import_platform() -> None:
    made = parse_breaker("acme", "b", 1, BREAKER)
    assert (made.failure_threshold, made.timeout, made.recovery_attempts) == (10, 60 * SECOND, 3)
    assert (made.probe_buckets, made.variant, made.cause) == (100_000, None, "breaker:b")


@pytest.mark.parametrize(
    ("text", "value"), [(5, "5"), (0.05, "0.05"), ("5%", "0.05"), ("0.1%", "0.001"), (-3, "-3"), ("-5%", "-0.05")]
)
def test_a_threshold_is_a_number_or_a_percentage(text: object, value: str) -> None:
    assert rule(warning=text).warning == Decimal(value)


@pytest.mark.parametrize(
    ("text", "micros"), [("1m", MINUTE), ("24h", DAY), ("1d", DAY), ("90m", 90 * MINUTE), (120, 2 * MINUTE)]
)
def test_a_window_is_whole_minutes_up_to_a_day(text: object, micros: int) -> None:
    assert rule(warning=1, window=text).window == micros


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"metric": None}, "spec.metric"),
        ({"metric": 5}, "spec.metric"),
        ({"metric": "a b"}, "spec.metric"),
        ({"direction": None}, "spec.direction"),
        ({"direction": "Above"}, "spec.direction"),
        ({"warning": None}, "spec"),
        ({"warning": "5"}, "spec.warning"),
        ({"warning": "5 %"}, "spec.warning"),
        ({"warning": "%"}, "spec.warning"),
        ({"warning": "1e5%"}, "spec.warning"),
        ({"warning": float("nan")}, "spec.warning"),
        ({"warning": float("inf")}, "spec.warning"),
        ({"warning": 2**70}, "spec.warning"),
        ({"warning": True}, "spec.warning"),
        ({"warning": [1]}, "spec.warning"),
        ({"critical": 0}, "spec.critical"),
        ({"direction": "below", "critical": 2}, "spec.critical"),
        ({"minimum_sample": 0}, "spec.minimum_sample"),
        ({"minimum_sample": 1.0}, "spec.minimum_sample"),
        ({"minimum_sample": True}, "spec.minimum_sample"),
        ({"window": "59s"}, "spec.window"),
        ({"window": "90s"}, "spec.window"),
        ({"window": "25h"}, "spec.window"),
        ({"window": "1h30m"}, "spec.window"),
        ({"window": 60.0}, "spec.window"),
        ({"window": None}, "spec.window"),
        ({"for": "-1s"}, "spec.for"),
        ({"every": "2d"}, "spec.every"),
        ({"group": {}}, "spec.group"),
        ({"group": ["a"]}, "spec.group"),
        ({"group": {"properties.a": 1.5}}, "spec.group.properties.a"),
        ({"group": {"properties.a": "x" * 201}}, "spec.group.properties.a"),
        ({"title": ""}, "spec.title"),
        ({"title": "x" * 201}, "spec.title"),
        ({"title": "a\x00b"}, "spec.title"),
        ({"message": 5}, "spec.message"),
        ({"runbook_url": "ftp://x"}, "spec.runbook_url"),
        ({"runbook_url": "http://[x"}, "spec.runbook_url"),
        ({"dashboard_url": "https://"}, "spec.dashboard_url"),
        ({"labels": {"a": 1}}, "spec.labels.a"),
        ({"labels": {str(n): "" for n in range(21)}}, "spec.labels"),
        ({"notify": "slack"}, "spec.notify"),
        ({"notify": ["slack", ""]}, "spec.notify[1]"),
        ({"notify": {"info": []}}, "spec.notify.info"),
        ({"notify": {"warning": [5]}}, "spec.notify.warning[0]"),
        ({"enabled": "yes"}, "spec.enabled"),
        ({"thresholds": 1}, "spec.thresholds"),
    ],
)
def test_a_faulty_rule_is_refused_with_the_place(change: dict[str, Any], place: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse_rule("acme", "r", 1, {**RULE, **change})
    assert refused.value.place == place


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"flag": None}, "spec.flag"),
        ({"failure_threshold": 0}, "spec.failure_threshold"),
        ({"failure_threshold": 101}, "spec.failure_threshold"),
        ({"timeout_ms": 99}, "spec.timeout_ms"),
        ({"timeout_ms": "60s"}, "spec.timeout_ms"),
        ({"recovery_attempts": 0}, "spec.recovery_attempts"),
        ({"probe_percentage": 0}, "spec.probe_percentage"),
        ({"probe_percentage": 100.1}, "spec.probe_percentage"),
        ({"probe_percentage": 0.00001}, "spec.probe_percentage"),
        ({"probe_percentage": float("nan")}, "spec.probe_percentage"),
        ({"probe_percentage": True}, "spec.probe_percentage"),
        ({"variant": 1}, "spec.variant"),
        ({"warning": 1}, "spec.warning"),
    ],
)
def test_a_faulty_breaker_is_refused_with_the_place(change: dict[str, Any], place: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse_breaker("acme", "b", 1, {**BREAKER, **change})
    assert refused.value.place == place


@pytest.mark.parametrize("parser", [parse_rule, parse_breaker])
@pytest.mark.parametrize("spec", [None, [], "x", 5])
def test_a_spec_is_an_object(parser: Callable[..., object], spec: object) -> None:
    with pytest.raises(DefinitionError, match="must be an object"):
        parser("acme", "k", 1, spec)


@pytest.mark.parametrize("key", ["", " ", "a b", "-a", "a" * 129, "ä", "a\n"])
def test_a_key_is_short_and_plain(key: str) -> None:
    with pytest.raises(DefinitionError, match="key"):
        parse_rule("acme", key, 1, RULE)


@pytest.mark.parametrize(
    ("notify", "warned", "escalated"),
    [
        (None, None, None),
        (["a"], ("a",), ("a",)),
        ({"warning": ["a"], "critical": ["b", "a"]}, ("a",), ("a", "b")),
        ({"critical": ["b"]}, (), ("b",)),
    ],
)
def test_who_heard_of_a_warning_hears_how_it_goes_on(notify: object, warned: object, escalated: object) -> None:
    made = rule(warning=1, critical=2, notify=notify).notify
    assert (made.channels(Level.WARNING), made.channels(Level.CRITICAL)) == (warned, escalated)


def test_the_same_meaning_is_the_same_definition() -> None:
    assert canonical({"a": 1, "b": None}) == canonical({"a": 1.0})
    assert canonical({"enabled": True}) != canonical({"enabled": 1})


@pytest.mark.parametrize(
    ("change", "same"),
    [({"warning": 3}, True), ({"window": "1h"}, False), ({"direction": "below"}, False), ({"metric": "n"}, False)],
)
def test_a_rule_that_looks_elsewhere_is_another(change: dict[str, Any], same: bool) -> None:
    assert rule(warning=1).watches_the_same(rule(**{"warning": 1, **change})) is same


@pytest.mark.parametrize(
    ("change", "same"), [({"timeout_ms": 500}, True), ({"flag": "g"}, False), ({"variant": "x"}, False)]
)
def test_a_breaker_of_another_flag_is_another(change: dict[str, Any], same: bool) -> None:
    assert breaker().guards_the_same(breaker(**change)) is same


def test_every_preset_is_what_its_service_takes() -> None:
    presets = Path(next(iter(deploy.__path__))) / "presets"
    documents = in_order(d for file in find_files(presets) for d in parse(file.read_text("utf-8"), str(file)))
    metrics = {d.key: shape_of(1, d.spec) for d in documents if d.kind == "metric"}
    kinds = set()
    for d in documents:
        kinds.add(d.kind)
        match d.kind:
            case "metric":
                parse_definition("acme", d.key, 1, d.spec)
            case "flag":
                parse_flag("acme", d.key, 1, d.spec)
            case "rule":
                made = parse_rule("acme", d.key, 1, d.spec)
                assert not isinstance(aggregation_of(metrics[made.metric], made.aggregation), Unreadable), str(d)
            case "breaker":
                assert metrics[parse_breaker("acme", d.key, 1, d.spec).metric].type == "streak"
            case other:
                raise AssertionError(f"nobody checks a {other}")
    assert kinds == {"metric", "flag", "rule", "breaker"}

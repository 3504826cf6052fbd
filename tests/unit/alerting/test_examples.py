"""The examples in the documentation of the API are accepted as they stand."""

from __future__ import annotations

from typing import Any

import pytest

from services.alerting.channels.spec import parse_channel, type_of
from services.alerting.domain.breaker import parse_breaker
from services.alerting.domain.rule import parse_rule
from services.alerting.examples import BREAKERS, CHANNELS, RULES


@pytest.mark.parametrize("example", RULES.values(), ids=list(RULES))
def test_an_example_of_a_rule_is_accepted(example: dict[str, Any]) -> None:
    assert parse_rule("acme", "key", 1, example["value"]).metric == example["value"]["metric"]


@pytest.mark.parametrize("example", BREAKERS.values(), ids=list(BREAKERS))
def test_an_example_of_a_breaker_is_accepted(example: dict[str, Any]) -> None:
    assert parse_breaker("acme", "key", 1, example["value"]).flag == example["value"]["flag"]


@pytest.mark.parametrize("example", CHANNELS.values(), ids=list(CHANNELS))
def test_an_example_of_a_channel_is_accepted(example: dict[str, Any]) -> None:
    assert type_of(parse_channel(example["value"])) == example["value"]["type"]

"""What an intake rule may say."""

from __future__ import annotations

from typing import Any

import pytest

from services.ingest.domain.quality.intake_rule import parse_intake_rule
from services.ingest.quality.intake_rule_api import EXAMPLES
from shared.definition_error import DefinitionError


@pytest.mark.parametrize(
    ("spec", "place", "what"),
    [
        ({}, "spec", "exactly one of"),
        ({"drop": ["user_id"], "bots": "drop"}, "spec", "this has drop and bots"),
        ({"drop": ["event_data.x"], "rotate": "day"}, "spec.rotate", "unknown beside drop"),
        ({"drop": []}, "spec.drop", "a list of 1 to 100"),
        ({"drop": "event_data.x"}, "spec.drop", "a list of 1 to 100"),
        ({"hash": ["event_data.x"]}, "spec.rotate", "is missing"),
        ({"hash": ["event_data.x"], "rotate": "hour"}, "spec.rotate", "never, day, week, month"),
        ({"hash": ["event_data.x", "user_id"], "rotate": "day"}, "spec.hash[1]", "is the user_id"),
        ({"hash": ["event_data.importJobId"], "rotate": "week"}, "spec.hash[0]", "is the job_id"),
        ({"truncate_ip": ["user_id"]}, "spec.truncate_ip[0]", "is an id"),
        ({"truncate_ip": ["context.ip"], "ipv4_bits": 33}, "spec.ipv4_bits", "0 to 32"),
        ({"truncate_ip": ["context.ip"], "ipv6_bits": True}, "spec.ipv6_bits", "0 to 128"),
        ({"drop": ["context.x"], "unreadable": "show"}, "spec.unreadable", "keep, withhold"),
        ({"bots": "ban"}, "spec.bots", "drop, mark"),
        ({"sample": 0.1}, "spec.event_types", "must name each"),
        ({"sample": 0.1, "event_types": ["*"]}, "spec.event_types", "must name each"),
        ({"sample": 0.1, "event_types": ["job_*", "x"]}, "spec.event_types", "must name each"),
        ({"sample": 0.1, "event_types": ["x", "experiment_exposure"]}, "spec.event_types", "never sampled"),
        ({"sample": 0.1, "event_types": ["experiment_result"]}, "spec.event_types", "never sampled"),
        ({"sample": 0.1, "event_types": ["$identify"]}, "spec.event_types", "never sampled"),
        *(
            ({"sample": rate, "event_types": ["x"]}, "spec.sample", "between 0 and 1")
            for rate in (0, 1, -0.1, 1e-9, True, "0.1", 0.9999999, 10**400)
        ),
        ({"sample": 0.1, "event_types": ["x"], "by": "device"}, "spec.by", "user, anonymous"),
        ({"bots": "drop", "event_types": []}, "spec.event_types", "1 to 200"),
        ({"bots": "drop", "event_types": ["a*b"]}, "spec.event_types[0]", "at its end"),
        ({"bots": "drop", "event_types": [5]}, "spec.event_types[0]", "a text"),
        ({"bots": "drop", "enabled": 1}, "spec.enabled", "true or false"),
        ([], "spec", "an object"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_faulty_rule_is_refused_with_the_place_of_the_fault(spec: Any, place: str, what: str) -> None:
    with pytest.raises(DefinitionError) as refusal:
        parse_intake_rule("rule", spec)

    assert refusal.value.place == place
    assert what in refusal.value.what


def test_keys_are_as_those_of_sources() -> None:
    with pytest.raises(DefinitionError, match="key: 1 to 64"):
        parse_intake_rule("No Spaces", {"bots": "drop"})


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_what_the_documentation_shows_is_a_rule(example: Any) -> None:
    assert parse_intake_rule("example", example["value"]).enabled

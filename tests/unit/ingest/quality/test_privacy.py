"""What must not be kept is taken out of events."""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.quality.checks import redactor_of
from services.ingest.domain.quality.field_path import IDS, parse_path
from services.ingest.domain.quality.intake_rule import parse_intake_rule
from services.ingest.domain.quality.privacy import Action, Redactions, Redactor
from shared.definition_error import DefinitionError
from shared.messages import Event
from tests.unit.ingest.quality.rules import FixedKeys

NOW = 1_795_348_800_000_000
KEYS = FixedKeys()


def redactor(*specs: Mapping[str, Any], done: Redactions | None = None) -> Redactor:
    rules = [parse_intake_rule(f"r{number}", spec) for number, spec in enumerate(specs)]
    found = redactor_of(rules, lambda *asked: KEYS.hasher("acme", *asked), done or Redactions())
    assert found is not None
    return found


def event(**fields: Any) -> Event:
    given_ = {"organisation": "acme", "event_id": "e", "event_type": "signup", "time": NOW, "received_at": NOW}
    return Event(**{**given_, **fields})


def test_event_types_under_the_same_rules_share_what_is_planned_for_them() -> None:
    """Whoever sends events names their types: were each to have its own plan, they would take hundreds of MB."""
    found = redactor(*[{"drop": [f"event_data.a{n}-{m}" for m in range(20)]} for n in range(20)])
    assert found.event(event(properties={"a0-0": 1, "b": 2}), NOW).properties == {"b": 2}
    tracemalloc.start()
    for n in range(1_000):
        assert found.event(event(event_type=f"t{n}", properties={"a1-1": 1, "b": 2}), NOW).properties == {"b": 2}
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert taken < 1_000_000


def kept(sent: Event, *specs: Mapping[str, Any]) -> Event:
    return redactor(*specs).event(sent, NOW)


def hashed(value: str, rotate: str = "never") -> Any:
    return kept(event(properties={"v": value}), {"hash": ["event_data.v"], "rotate": rotate}).properties["v"]


def test_dropped_fields_are_gone_wherever_they_are_and_all_else_stays() -> None:
    people = [{"phone": "1", "name": "a"}, {"name": "b"}, "phone", [{"phone": "2"}]]
    sent = event(
        properties={"phone": 0, "customer": {"phone": "3", "zip": 1}, "people": people}, context={"ip": "::"}
    )

    stored = kept(sent, {"drop": ["event_data.customer.phone", "properties.people.phone", "context.ip"]})

    assert stored.properties == {
        "phone": 0,
        "customer": {"zip": 1},
        "people": [{"name": "a"}, {"name": "b"}, "phone", [{}]],
    }
    assert stored.context == {}
    assert sent.properties["people"] is people


def test_a_name_may_hold_dots() -> None:
    stored = kept(event(properties={"a.b": {"c": 1}, "a": {"b": {"c": 2}}}), {"drop": [r"event_data.a\.b.c"]})

    assert stored.properties == {"a.b": {}, "a": {"b": {"c": 2}}}


def test_values_of_any_kind_are_hashed_and_one_value_has_one_hash() -> None:
    properties = {"v": ["42", 42, 42.0, None, "", True, {"b": 1, "a": 2}, {"a": 2, "b": 1}, 1.5]}

    text, whole, real, nothing, empty, true, one, other, fraction = kept(
        event(properties=properties), {"hash": ["event_data.v"], "rotate": "day"}
    ).properties["v"]

    assert text == whole == real == hashed("42", "day") != hashed("42", "month")
    assert (nothing, empty) == (None, "")
    assert one == other != true
    assert {true, one, fraction} == {hashed("true", "day"), hashed('{"a":2,"b":1}', "day"), hashed("1.5", "day")}


def test_an_id_is_hashed_wherever_it_stands() -> None:
    rule = {"hash": ["user_id", "event_data.anonymousId"], "rotate": "never"}
    sent = event(
        user_id="u-1",
        anonymous_id="a-1",
        session_id="s-1",
        properties={
            "userId": "u-1",
            "$user_id": "u-1",
            "alias": "u-1",
            "$anon_distinct_id": "a-1",
            "sessionId": "s-1",
        },
        context={"cloudevent": {"subject": "u-1", "source": "/x"}, "traits": {"userId": "u-1", "plan": "pro"}},
    )

    stored = kept(sent, rule)

    text = msgspec.json.encode(stored).decode()
    assert ("u-1" in text, "a-1" in text) == (False, False)
    assert (stored.user_id, stored.anonymous_id, stored.session_id) == (hashed("u-1"), hashed("a-1"), "s-1")
    assert stored.properties["userId"] == stored.context["traits"]["userId"] == hashed("u-1")
    assert (stored.context["cloudevent"]["source"], stored.context["traits"]["plan"]) == ("/x", "pro")


def test_dropped_ids_are_no_ids() -> None:
    stored = kept(event(user_id="u-1", job_id="j", properties={"jobId": "j"}), {"drop": ["job_id"]})

    assert (stored.user_id, stored.job_id, stored.properties) == ("u-1", None, {})


def test_an_address_is_cut_in_the_context_and_where_another_product_puts_it() -> None:
    sent = event(properties={"$ip": "203.0.113.9", "n": 1}, context={"ip": ["203.0.113.9", "no address", 5]})

    stored = kept(sent, {"truncate_ip": ["context.ip"]})

    assert (stored.properties, stored.context) == ({"$ip": "203.0.113.0", "n": 1}, {"ip": ["203.0.113.0"]})


def test_what_is_cut_and_hashed_is_cut_first_and_neither_happens_twice() -> None:
    rules = {"truncate_ip": ["context.ip"]}, {"hash": ["context.ip"], "rotate": "day"}

    stored = kept(event(context={"ip": "203.0.113.9"}), *rules)

    assert stored.context == {"ip": hashed("203.0.113.0", "day")}
    assert kept(stored, *rules) == stored


def test_rules_are_about_the_event_types_that_they_name() -> None:
    rule = {"drop": ["event_data.x"], "event_types": ["signup", "checkout_*"]}

    left = [
        kind
        for kind in ("signup", "signup2", "checkout_", "checkout_paid", "Checkout_paid")
        if kept(event(event_type=kind, properties={"x": 1}), rule).properties
    ]

    assert left == ["signup2", "Checkout_paid"]


def test_changed_values_are_counted_by_action() -> None:
    done = Redactions()
    several = redactor(
        {"drop": ["event_data.a"]},
        {"hash": ["event_data.b"], "rotate": "day"},
        {"truncate_ip": ["event_data.c"]},
        done=done,
    )

    stored = several.event(event(properties={"a": 1, "b": ["x", "y", ""], "c": "10.1.2.3", "d": "stays"}), NOW)
    several.event(stored, NOW)

    assert done.counts == {Action.DROP: 1, Action.HASH: 2, Action.TRUNCATE_IP: 1}


def test_while_a_key_is_missing_the_redactor_is_not_ready_and_keeps_no_value() -> None:
    keys = FixedKeys()
    rule = parse_intake_rule("r", {"hash": ["event_data.v"], "rotate": "day"})
    found = redactor_of([rule], lambda *asked: keys.hasher("acme", *asked), Redactions())
    assert found is not None
    keys.missing = True

    assert not found.is_ready(NOW)
    assert found.event(event(properties={"v": "secret"}), NOW).properties == {}
    keys.missing = False
    assert found.is_ready(NOW)
    assert found.event(event(properties={"v": "secret"}), NOW).properties == {"v": hashed("secret", "day")}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from("abc"), _JSON), st.sampled_from(["a", "a.b", "b.c.a"]))
def test_whatever_stands_there_redacting_is_idempotent_and_changes_nothing_that_was_given(
    properties: dict[str, Any], path: str
) -> None:
    rules = (
        {"drop": [f"event_data.{path}.c"]},
        {"hash": [f"event_data.{path}"], "rotate": "week"},
        {"truncate_ip": ["event_data.c"]},
    )
    sent = event(properties=properties)
    before = copy.deepcopy(properties)

    stored = kept(sent, *rules)

    assert repr(sent.properties) == repr(before)
    assert kept(stored, *rules) == stored


@pytest.mark.parametrize(
    "path", ["", "email", "event_data", "event_data.", "event_data..x", "user_id.x", "event_id", "time", 5], ids=repr
)
def test_what_is_no_path_is_refused(path: object) -> None:
    with pytest.raises(DefinitionError, match=r"spec\.drop\[0\]"):
        parse_path(path, "spec.drop[0]")


@pytest.mark.parametrize("name", IDS)
def test_every_id_can_be_dropped(name: str) -> None:
    assert getattr(kept(event(**{name: "x"}), {"drop": [name]}), name) is None

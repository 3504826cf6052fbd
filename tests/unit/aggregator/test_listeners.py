"""Which metrics somebody listens to."""

from __future__ import annotations

from typing import Any

from services.aggregator.listeners import Listeners
from shared.messages import Breaker, Rule


def rule(metric: Any, *, key: str = "r", version: int = 1, organisation: str = "acme") -> Rule:
    return Rule(organisation=organisation, key=key, version=version, spec={"metric": metric, "unknown": 1})


def test_who_has_no_rule_yet_hears_everything() -> None:
    listeners = Listeners()
    listeners.learn("rule", rule("a"))
    assert listeners.hears_metric("another", "b")
    assert listeners.hears_everything("another")
    assert listeners.hears_metric("acme", "a")
    assert not listeners.hears_metric("acme", "b")
    assert not listeners.hears_everything("acme")


def test_rules_and_breakers_of_one_key_are_two_listeners() -> None:
    listeners = Listeners()
    listeners.learn("rule", rule("a", key="x"))
    listeners.learn("breaker", Breaker(organisation="acme", key="x", version=1, spec={"metric": "b"}))
    assert listeners.hears_metric("acme", "a")
    assert listeners.hears_metric("acme", "b")


def test_a_metric_that_no_rule_names_any_more_is_no_longer_heard() -> None:
    listeners = Listeners()
    listeners.learn("rule", rule("a"))
    listeners.learn("rule", rule("a", key="other"))
    listeners.learn("rule", rule("b", version=2))
    assert listeners.hears_metric("acme", "a"), "the other rule still names it"
    listeners.learn("rule", rule("b", key="other", version=2))
    assert not listeners.hears_metric("acme", "a")
    assert listeners.hears_metric("acme", "b")


def test_a_lower_version_changes_nothing() -> None:
    listeners = Listeners()
    listeners.learn("rule", rule("b", version=2))
    listeners.learn("rule", rule("a", version=1))
    assert not listeners.hears_metric("acme", "a")


def test_a_spec_without_a_metric_is_listened_to_by_nobody_and_breaks_nothing() -> None:
    listeners = Listeners()
    for metric in (None, 5, ["a"], ""):
        listeners.learn("rule", rule(metric, key=str(metric)))
    assert listeners.begun_since(0) == ([], 0)
    assert not listeners.hears_metric("acme", "")


def test_each_reader_learns_once_what_began_to_be_listened_to() -> None:
    listeners = Listeners()
    listeners.learn("rule", rule("a"))
    listeners.learn("rule", rule("a", key="second"))
    begun, place = listeners.begun_since(0)
    assert begun == [("acme", "a")]
    assert listeners.begun_since(place) == ([], place)
    listeners.learn("rule", rule("b", version=2))
    listeners.learn("rule", rule("b", key="second", version=2))
    assert listeners.begun_since(place)[0] == [("acme", "b")]
    assert listeners.begun_since(0)[0] == [("acme", "b")], "what is heard no longer is not begun"

"""The topics themselves: names, keys, settings, and their table in the README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from shared import messages as m
from shared import topics
from shared.kafka import partition_of
from shared.topics import TOPICS, Topic
from tests.contract.test_messages import EXAMPLES, each_topic

README = Path(__file__).parents[2] / "README.md"
SERVICES = {"assignment", "ingest", "aggregator", "alerting"}
DEFINITIONS = (
    topics.EXPERIMENTS,
    topics.FLAGS,
    topics.METRICS,
    topics.RULES,
    topics.BREAKERS,
    topics.SOURCES,
    topics.SCHEMAS,
    topics.INTAKE_RULES,
)

if TYPE_CHECKING:

    def the_wrong_message_does_not_pass_the_type_checker(heartbeat: m.Heartbeat) -> None:
        topics.EVENTS.encode(heartbeat)  # type: ignore[arg-type]  # if this passed, mypy would call it unused


def test_the_readme_shows_the_topics_as_they_are() -> None:
    text = README.read_text(encoding="utf-8")
    found = re.search(r"<!-- topics:start -->\n(.*?)\n<!-- topics:end -->", text, re.DOTALL)
    assert found, "README.md has no <!-- topics:start --> … <!-- topics:end -->"
    assert found[1].strip() == topics.readme_table(), "run `python -m shared.topics` and paste the table"


def test_the_table_has_a_row_for_each_topic() -> None:
    rows = topics.readme_table().splitlines()[2:]
    assert [row.split("|")[1].strip(" `") for row in rows] == [t.name for t in TOPICS]
    assert {row.count("|") for row in rows} == {8}


def test_names_and_messages_are_unique_and_versioned() -> None:
    assert len({t.name for t in TOPICS}) == len({t.message for t in TOPICS}) == len(TOPICS)
    assert all(re.fullmatch(r"[a-z-]+\.v\d+(\.dlq)?", t.name) for t in TOPICS)


@each_topic
def test_producers_and_consumers_are_services(topic: Topic[m.Message]) -> None:
    assert topic.producers
    assert topic.consumers
    assert {*topic.producers, *topic.consumers} <= SERVICES


def test_only_ingest_and_assignment_write_events() -> None:
    assert set(topics.EVENTS.producers) == {"ingest", "assignment"}


@each_topic
def test_broker_time_rules_and_what_is_not_compacted_expires(topic: Topic[m.Message]) -> None:
    config = topic.topic_config()
    assert config["message.timestamp.type"] == "LogAppendTime"
    assert ("compact" in config["cleanup.policy"]) == topic.compacted
    if "delete" in config["cleanup.policy"]:
        assert int(config["retention.ms"]) >= 86_400_000


def test_events_keep_every_record() -> None:
    """Offsets must be contiguous: a gap is an alarm."""
    assert topics.EVENTS.topic_config()["cleanup.policy"] == "delete"
    assert topics.METRIC_UPDATES.partitions == topics.EVENTS.partitions


@pytest.mark.parametrize(
    "topic", [*DEFINITIONS, topics.HASH_KEYS, topics.KEYS, topics.SWITCHES], ids=lambda t: t.name
)
def test_definitions_are_kept_for_good_and_in_one_order(topic: Topic[m.Message]) -> None:
    assert topic.topic_config()["cleanup.policy"] == "compact"
    assert topic.partitions == 1


@each_topic
def test_a_key_is_a_pure_function_of_the_message(topic: Topic[m.Message]) -> None:
    example = EXAMPLES[topic.name]
    assert topic.key(example)
    assert topic.key(topic.decode(topic.encode(example))) == topic.key(example)


def test_an_events_key_is_the_first_id_it_has() -> None:
    event = m.Event(
        organisation="o",
        event_id="e",
        event_type="t",
        time=1,
        received_at=1,
        user_id="u",
        anonymous_id="a",
        session_id="s",
        job_id="j",
    )
    for field, expected in (("user_id", "u"), ("anonymous_id", "a"), ("session_id", "s"), ("job_id", "j")):
        assert topics.EVENTS.key(event) == expected
        event = msgspec.structs.replace(event, **{field: None})
    assert topics.EVENTS.key(event) == "e"


@pytest.mark.parametrize("topic", DEFINITIONS, ids=lambda t: t.name)
def test_versions_of_a_definition_share_a_key_and_organisations_do_not(topic: Topic[m.Message]) -> None:
    example = EXAMPLES[topic.name]
    newer = msgspec.structs.replace(example, version=99)
    assert topic.key(newer) == topic.key(example)
    assert topic.key(msgspec.structs.replace(example, organisation="other")) != topic.key(example)


def test_states_of_an_update_share_a_key_and_all_arms_a_partition() -> None:
    update = EXAMPLES["metric-updates.v1"]
    assert isinstance(update, m.MetricUpdate)
    key = topics.METRIC_UPDATES.key
    assert key(msgspec.structs.replace(update, revision=1, n=5, watermark=3)) == key(update)
    arms = [
        msgspec.structs.replace(update, series="[1]"),
        msgspec.structs.replace(update, shard=0),
        msgspec.structs.replace(update, window_start=60),
        msgspec.structs.replace(update, version=9),
    ]
    assert len({key(a) for a in (update, *arms)}) == 5
    assert len({partition_of(topics.subject_key(a), 64) for a in (update, *arms)}) == 1


def test_each_cause_of_a_switch_has_a_record_of_its_own() -> None:
    switch = EXAMPLES["switches.v1"]
    assert isinstance(switch, m.Switch)
    key = topics.SWITCHES.key
    assert key(msgspec.structs.replace(switch, off=False, evidence={})) == key(switch)
    others = [
        msgspec.structs.replace(switch, cause="manual"),
        msgspec.structs.replace(switch, variant=None),
        msgspec.structs.replace(switch, flag="other"),
    ]
    assert len({key(s) for s in (switch, *others)}) == 4


def test_no_names_make_the_records_of_two_organisations_one() -> None:
    switch = EXAMPLES["switches.v1"]
    assert isinstance(switch, m.Switch)
    ours = msgspec.structs.replace(switch, organisation="acme/eu", flag="imports", variant=None)
    theirs = msgspec.structs.replace(switch, organisation="acme", flag="eu", variant="imports/")
    assert topics.SWITCHES.key(ours) != topics.SWITCHES.key(theirs)

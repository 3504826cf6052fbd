"""A source may read any Kafka but our own topics, however it gets to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from services.ingest.domain.sources.connections import KafkaConnection, parse_connection
from services.ingest.sources.own_kafka import OwnKafka
from services.ingest.sources.reader import ReadError, RefusedError
from shared.topics import TOPICS

CLUSTERS = {"ours:1": "A", "alias-of-ours:2": "A", "theirs:3": "B"}
SECURITY = {"security_protocol": "SASL_SSL"}


async def cluster_id(settings: Mapping[str, Any]) -> str:
    server = settings["bootstrap_servers"]
    assert settings == {"bootstrap_servers": server, **SECURITY} or settings == {"bootstrap_servers": server}
    if server not in CLUSTERS:
        raise KafkaConnectionError
    return CLUSTERS[server]


async def unasked(settings: Mapping[str, Any]) -> str:
    raise AssertionError("nobody has to be asked")


def connection(topic: str, *servers: str) -> KafkaConnection:
    found = parse_connection("kafka", {"bootstrap_servers": list(servers), "topic": topic}, "key")
    assert isinstance(found, KafkaConnection)
    return found


@pytest.mark.parametrize("topic", [*(topic.name for topic in TOPICS), "__consumer_offsets"])
async def test_our_own_topics_are_refused_by_whatever_name_our_kafka_goes(topic: str) -> None:
    for servers in (("ours:1",), ("alias-of-ours:2",), ("theirs:3", "alias-of-ours:2"), ("away:9", "ours:1")):
        with pytest.raises(RefusedError, match=topic):
            await OwnKafka("ours:1", cluster_id).check(connection(topic, *servers), SECURITY)


async def test_another_kafka_may_have_topics_of_the_same_names_and_servers_that_are_away_are_left_out() -> None:
    own = OwnKafka("ours:1", cluster_id)
    assert await own.check(connection("events.v1", "theirs:3", "away:9"), SECURITY) == ("theirs:3",)
    for found in (connection("events.v1", "away:9"), connection("flags.v1", "away:8", "away:9")):
        with pytest.raises(ReadError) as refused:
            await own.check(found, SECURITY)
        assert not isinstance(refused.value, RefusedError)


async def test_for_any_other_topic_nobody_is_asked() -> None:
    servers = ("ours:1", "theirs:3")
    assert await OwnKafka("ours:1", unasked).check(connection("orders", *servers), SECURITY) == servers


async def test_as_long_as_our_own_kafka_does_not_answer_a_topic_of_ours_is_not_read() -> None:
    with pytest.raises(ReadError, match="our own Kafka"):
        await OwnKafka("away:9", cluster_id).check(connection("events.v1", "theirs:3"), SECURITY)

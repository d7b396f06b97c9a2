"""Topics as the broker has them after `apply_topics`, and what is refused."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from shared.errors import ConfigurationError
from shared.kafka.producer import client_options
from shared.kafka.topics import apply_topics, plan_topics, topic_specs
from shared.settings import Settings, Topic
from tests.support.isolation import isolated, unique_names

DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def settings(engines: Settings) -> Iterator[Settings]:
    with isolated(engines, topics=True, topic_partitions=3) as found:
        yield found


async def configs(settings: Settings) -> dict[Topic, dict[str, str]]:
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        answers = [
            await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, settings.topic(topic))])
            for topic in Topic
        ]
    finally:
        await admin.close()
    return {
        topic: {entry[0]: entry[1] for entry in answer[0].resources[0][4]}
        for topic, answer in zip(Topic, answers, strict=True)
    }


async def test_topics_have_the_documented_settings(settings: Settings) -> None:
    found = await configs(settings)
    commands, events, dead = (found[topic] for topic in (Topic.COMMANDS, Topic.EVENTS, Topic.DLQ))
    assert (commands["cleanup.policy"], commands["retention.ms"]) == ("delete", str(30 * DAY_MS))
    assert commands["message.timestamp.type"] == "LogAppendTime"
    assert (events["cleanup.policy"], events["min.compaction.lag.ms"]) == ("compact", str(7 * DAY_MS))
    assert events["max.compaction.lag.ms"] == str(14 * DAY_MS)
    assert (dead["cleanup.policy"], dead["retention.ms"]) == ("delete", str(30 * DAY_MS))
    assert int(dead["max.message.bytes"]) > int(events["max.message.bytes"])
    assert {spec.partitions for spec in topic_specs(settings)} == {3}


async def test_applying_again_changes_nothing(settings: Settings) -> None:
    before = await configs(settings)
    await apply_topics(settings)
    assert await configs(settings) == before
    assert {plan.action for plan in await plan_topics(settings)} == {"keep"}


async def test_a_changed_setting_is_applied(settings: Settings) -> None:
    changed = settings.model_copy(update={"commands_retention": timedelta(days=10)})
    plans = {plan.spec.name: plan.action for plan in await plan_topics(changed)}
    assert plans[settings.topic(Topic.COMMANDS)] == "alter"
    await apply_topics(changed)
    found = await configs(settings)
    assert found[Topic.COMMANDS]["retention.ms"] == str(10 * DAY_MS)
    assert found[Topic.COMMANDS]["message.timestamp.type"] == "LogAppendTime"


async def test_another_number_of_partitions_is_refused(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="3 partitions"):
        await apply_topics(settings.model_copy(update={"topic_partitions": 4}))


async def test_more_replicas_than_brokers_are_refused(engines: Settings) -> None:
    many = engines.model_copy(update={"topic_prefix": unique_names()["TOPIC_PREFIX"], "topic_replication_factor": 9})
    with pytest.raises(ConfigurationError, match="InvalidReplicationFactor"):
        await apply_topics(many)


async def test_missing_broker_is_reported(engines: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:1"):
        await apply_topics(engines.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"}))

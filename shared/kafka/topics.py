"""Defines, creates and checks the topics. Brokers do not create topics automatically."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from shared.errors import ConfigurationError, Unavailable
from shared.kafka.producer import MAX_RECORD_BYTES, client_options
from shared.security import explain_kafka
from shared.settings import Settings, Topic

TOPIC_EXISTS = 36
"""Kafka's error code TOPIC_ALREADY_EXISTS."""
COMPACTION_AT_LATEST = timedelta(days=14)
"""Age at which Kafka has removed all events except the last one of each key."""
VISIBLE_WITHIN = timedelta(seconds=10)
"""How long `apply_topics` waits until a broker returns the new settings. The settings are stored in any case."""
SET_ON_TOPIC = 1
"""Kafka's code for a configuration entry that is set on the topic itself. Other entries are defaults."""


@dataclass(frozen=True)
class TopicSpec:
    """The intended state of a topic. `partitions` never changes: it decides the order of an owner's commands."""

    name: str
    partitions: int
    replication_factor: int
    config: dict[str, str]


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """All topics of a deployment."""
    retention = {"cleanup.policy": "delete", "retention.ms": _ms(settings.commands_retention)}
    # Kafka keeps every event for a week, so that a reader that was stopped still gets all. After two weeks only the
    # last event of each key is left.
    compaction = {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": _ms(timedelta(days=7)),
        "max.compaction.lag.ms": _ms(COMPACTION_AT_LATEST),
    }
    configs = {
        # Append times are used to find records by time. They neither order nor identify records.
        Topic.COMMANDS: retention | {"message.timestamp.type": "LogAppendTime"},
        Topic.EVENTS: compaction,
        # A dead letter has additional headers, so the DLQ must accept larger records than the other topics.
        Topic.DLQ: retention | {"max.message.bytes": str(MAX_RECORD_BYTES)},
    }
    return [
        TopicSpec(
            settings.topic(topic),
            settings.topic_partitions,
            settings.topic_replication_factor,
            # The broker decompresses what other clients have compressed, and then checks the size. Our consumers could
            # read gzip only, and a small batch could grow in their memory without a limit.
            config
            | {"min.insync.replicas": str(settings.topic_min_insync_replicas), "compression.type": "uncompressed"},
        )
        for topic, config in configs.items()
    ]


def _ms(duration: timedelta) -> str:
    return str(int(duration.total_seconds() * 1000))


@dataclass(frozen=True)
class TopicPlan:
    """The present state of a topic, and the changes that `apply_topics` would make.

    `partitions` and `replication_factor` are None if the topic does not exist. `changes` maps the name of a setting to
    its present and its intended value; None as the intended value means Kafka's default. `refusal` says why the topic
    cannot be changed: another number of partitions would break the order of commands.
    """

    spec: TopicSpec
    partitions: int | None
    replication_factor: int | None
    changes: dict[str, tuple[str | None, str | None]]
    refusal: str | None = None

    @property
    def action(self) -> Literal["create", "alter", "keep", "refuse"]:
        """The action of `apply_topics`."""
        if self.refusal:
            return "refuse"
        if self.partitions is None:
            return "create"
        return "alter" if self.changes else "keep"


async def plan_topics(settings: Settings) -> list[TopicPlan]:
    """The changes that `apply_topics` would make. This function makes none.

    Raises ConfigurationError if Kafka is unavailable.
    """
    specs = topic_specs(settings)
    admin = AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=30_000)
    try:
        await admin.start()
        described = {topic["topic"]: topic for topic in await admin.describe_topics([spec.name for spec in specs])}
        there = [spec.name for spec in specs if described.get(spec.name, {}).get("error_code") == 0]
        configs = await _topic_configs(admin, there)
    except KafkaError as error:
        raise ConfigurationError(f"{error}; {await explain_kafka(settings)}") from error
    finally:
        await admin.close()
    return [_plan(spec, described.get(spec.name), configs.get(spec.name)) for spec in specs]


async def _topic_configs(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    return {
        name: {entry[0]: entry[1] for entry in entries if entry[3] == SET_ON_TOPIC}
        for answer in await admin.describe_configs(resources)
        for _code, _message, _type, name, entries in answer.resources
    }


def _plan(spec: TopicSpec, described: dict[str, Any] | None, config: dict[str, str] | None) -> TopicPlan:
    if described is None or config is None:
        return TopicPlan(spec, None, None, {name: (None, value) for name, value in spec.config.items()})
    partitions = len(described["partitions"])
    changes = {
        name: (config.get(name), spec.config.get(name))
        for name in sorted(spec.config.keys() | config.keys())
        if config.get(name) != spec.config.get(name)
    }
    refusal = None if partitions == spec.partitions else _wrong_partitions(spec, partitions)
    replicas = min(len(partition["replicas"]) for partition in described["partitions"])
    return TopicPlan(spec, partitions, replicas, changes, refusal)


def _wrong_partitions(spec: TopicSpec, partitions: int) -> str:
    return (
        f"topic {spec.name} has {partitions} partitions, but TOPIC_PARTITIONS is {spec.partitions}. The number of "
        "partitions cannot change, because it decides the order of an owner's commands: set TOPIC_PARTITIONS to "
        f"{partitions}, or move to new topics (docs/runbooks/more-partitions.md)."
    )


async def apply_topics(settings: Settings) -> None:
    """Create the missing topics and set the intended settings on the existing ones. Idempotent.

    Raises ConfigurationError if a topic cannot be created or has another number of partitions.
    """
    specs = topic_specs(settings)
    admin = AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=30_000)
    try:
        await admin.start()
        created = await admin.create_topics(
            [NewTopic(spec.name, spec.partitions, spec.replication_factor, topic_configs=spec.config) for spec in specs]
        )
        # create_topics does not raise an error. It returns an error code for each topic.
        for name, code, *message in created.topic_errors:
            if code not in (0, TOPIC_EXISTS):
                raise ConfigurationError(f"topic {name}: {for_code(code).__name__}: {message[0] if message else ''}")
        await _check_partitions(admin, specs)
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, spec.name, configs=spec.config) for spec in specs]
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(VISIBLE_WITHIN.total_seconds()):
                await _until_visible(admin, specs)
    except KafkaError as error:
        raise ConfigurationError(f"{error}; {await explain_kafka(settings)}") from error
    finally:
        await admin.close()


async def _until_visible(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> None:
    # The controller confirms a change before all brokers know it. The broker that gets the next request may still
    # return the old settings.
    while True:
        described = await admin.describe_topics([spec.name for spec in specs])
        there = [topic["topic"] for topic in described if topic["error_code"] == 0]
        configs = await _topic_configs(admin, there)
        if all(spec.config.items() <= configs.get(spec.name, {}).items() for spec in specs):
            return
        await asyncio.sleep(0.05)


async def require_topics(settings: Settings) -> None:
    """Return if all topics exist. Raises ConfigurationError if one is missing, Unavailable if no broker answers.

    Without this check a consumer of a missing topic would start, read nothing and report that it is healthy.
    """
    names = [spec.name for spec in topic_specs(settings)]
    admin = AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=30_000)
    try:
        await admin.start()
        missing = sorted({*names} - {*await admin.list_topics()})
    except KafkaError as error:
        raise Unavailable("kafka", f"{error}; {await explain_kafka(settings)}") from error
    finally:
        await admin.close()
    if missing:
        raise ConfigurationError(
            f"missing topics: {', '.join(missing)}. Create them with `imagepipe topics apply` (`imagepipe up` does it)."
        )


async def _check_partitions(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> None:
    described = {topic["topic"]: topic for topic in await admin.describe_topics([spec.name for spec in specs])}
    for spec in specs:
        topic = described.get(spec.name)
        # This broker may not know a topic yet that was created a moment ago.
        if topic is None or topic["error_code"] != 0:
            continue
        count = len(topic["partitions"])
        if count != spec.partitions:
            raise ConfigurationError(_wrong_partitions(spec, count))

"""`imagepipe topics`, `schema`, `lag`, `tail` and `dlq` on real engines."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer

from ops.log.dead_letter_queue import Filter, unsettled
from ops.log.reader import read_topic
from shared.consuming.dead_letters import dead_letter_headers
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import encode
from shared.contract.events import Command, Failed, Uploaded
from shared.contract.headers import VERSION_HEADER, cloud_event_headers
from shared.contract.keys import Owner, command_version, tombstone_key
from shared.contract.logged_command import LoggedFence, read_command
from shared.kafka.producer import Producer, client_options
from shared.kafka.writers import KafkaCommandLog, KafkaDeadLetters, KafkaEventLog
from shared.ports import Appended
from shared.s3.store import S3Store
from shared.settings import Settings, Topic
from tests.support.isolation import isolated
from tests.support.processes.imagepipe import imagepipe, imagepipe_json
from tests.support.records import POISON, deleted, failed, uploaded

DEEP = b"[" * 1_000_000


@pytest.fixture
async def producer(space: Settings) -> AsyncIterator[Producer]:
    made = Producer(space)
    await made.start()
    yield made
    await made.close()


def test_topics_are_planned_applied_and_described(engines: Settings) -> None:
    with isolated(engines, topics=True, topic_partitions=3) as settings:
        assert {each["action"] for each in imagepipe_json(settings, "topics", "plan")} == {"keep"}
        described = imagepipe_json(settings, "topics", "describe")
        assert [row["partitions"] for row in described] == [3, 3, 3]

        shorter = settings.model_copy(update={"commands_retention": settings.commands_retention / 2})
        planned = {each["topic"]: each for each in imagepipe_json(shorter, "topics", "plan", code=1)}
        commands = planned[settings.topic(Topic.COMMANDS)]
        assert commands["action"] == "alter"
        assert commands["changes"] == {"retention.ms": {"is": "2592000000", "should_be": "1296000000"}}
        assert planned[settings.topic(Topic.EVENTS)]["action"] == "keep"

        imagepipe(shorter, "topics", "apply", "--dry-run")
        imagepipe(shorter, "topics", "plan", code=1)
        imagepipe(shorter, "topics", "apply", code=1)  # there is no terminal to confirm at
        imagepipe(shorter, "topics", "apply", "--yes")
        imagepipe(shorter, "topics", "plan")


def test_another_number_of_partitions_is_refused(engines: Settings) -> None:
    with isolated(engines, topics=True, topic_partitions=2) as settings:
        more = settings.model_copy(update={"topic_partitions": 4})
        assert {each["action"] for each in imagepipe_json(more, "topics", "plan", code=1)} == {"refuse"}
        imagepipe(more, "topics", "apply", "--yes", code=1)
        assert [row["partitions"] for row in imagepipe_json(settings, "topics", "describe")] == [2, 2, 2]


def test_the_schema_is_planned_and_applied(engines: Settings) -> None:
    with isolated(engines, keyspace=True) as settings:
        assert imagepipe_json(settings, "schema", "plan")["pending"] == []
        fresh = settings.model_copy(update={"cassandra_keyspace": f"{settings.cassandra_keyspace}_b"})
        pending = imagepipe_json(fresh, "schema", "plan", code=1)["pending"]
        assert pending[0] == "0001_tables"
        assert imagepipe_json(fresh, "schema", "apply", "--dry-run")["applied"] == []
        assert imagepipe_json(fresh, "schema", "apply", "--yes")["applied"] == pending
        assert imagepipe_json(fresh, "schema", "apply", "--yes")["applied"] == []


async def test_lag_counts_what_a_group_has_not_committed(space: Settings, producer: Producer) -> None:
    topic, group = space.topic(Topic.COMMANDS), f"{space.topic_prefix}readers"
    log = KafkaCommandLog(producer, space, "imagepipe/test")
    for _ in range(5):
        await log.append(uploaded())
    consumer = AIOKafkaConsumer(
        topic, **client_options(space), group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    read = 0
    while read < 5:
        read += sum(len(records) for records in (await consumer.getmany(timeout_ms=200)).values())
    positions = {place: await consumer.position(place) for place in consumer.assignment()}
    fullest = max(positions, key=lambda place: positions[place])
    await consumer.commit({**positions, fullest: positions[fullest] - 1})
    await consumer.stop()

    rows = await asyncio.to_thread(imagepipe_json, space, "lag", "--seconds", "0.1")
    (row,) = [each for each in rows if each["group"] == group]
    assert (row["topic"], row["lag"]) == (topic, 1)
    assert 0 <= row["oldest_seconds"] < 60


async def test_tail_shows_the_records_asked_for(space: Settings, producer: Producer) -> None:
    owner = Owner(type="tail", id="1")
    command = uploaded(owner=owner)
    await KafkaEventLog(producer, space, "imagepipe/test").publish(_failed(command, 7))
    await KafkaEventLog(producer, space, "imagepipe/test").publish(_failed(uploaded(), 8))
    arguments = ["tail", "--no-follow", "--from", "beginning", "--owner", "tail:1"]
    line = json.loads(await asyncio.to_thread(imagepipe, space, *arguments, "--json"))
    assert line["record"]["image_id"] == line["image_id"] == str(command.image_id)
    readable = await asyncio.to_thread(imagepipe, space, *arguments)
    assert "image.failed" in readable
    assert str(command.image_id) in readable
    assert await asyncio.to_thread(imagepipe, space, *arguments, "--type", "image.ready") == ""


async def test_a_redriven_command_keeps_its_version_and_a_delete_does_not(space: Settings, producer: Producer) -> None:
    owner = Owner(type="dlq", id="redrive")
    command, gone, removal = (
        uploaded(owner=owner),
        uploaded(owner=owner),
        deleted(uploaded(owner=owner).image_id, owner),
    )
    first = {each.image_id: await _dead_letter(space, producer, each, "boom") for each in (command, gone, removal)}
    store = S3Store.from_settings(space)
    await store.put(tombstone_key(gone.image_id), b"{}", "application/json")
    await store.close()

    listed = await asyncio.to_thread(imagepipe_json, space, "dlq", "list", "--owner", owner.key)
    assert [row["image_id"] for row in listed] == [str(each.image_id) for each in (command, gone, removal)]
    shown = await asyncio.to_thread(imagepipe_json, space, "dlq", "show", listed[0]["entry"])
    assert "boom" in shown["stack"]
    assert shown["record"]["revision"] == str(command.revision)

    arguments = ["dlq", "redrive", "--owner", owner.key]
    assert (await asyncio.to_thread(imagepipe_json, space, *arguments, "--dry-run"))["matched"] == 3
    done = await asyncio.to_thread(imagepipe_json, space, *arguments, "--yes")
    assert (done["redriven"], done["skipped"]) == (2, 1)
    assert await unsettled(space, Filter(owner=owner)) == []

    again = await _last_commands(space, owner)
    partition, offset, version = again[command.image_id]
    assert version == command_version(space.epoch, first[command.image_id].offset or 0)
    assert partition == first[command.image_id].partition
    assert offset != first[command.image_id].offset
    _, offset, version = again[removal.image_id]
    assert (
        version
        == command_version(space.epoch, offset)
        != command_version(space.epoch, first[removal.image_id].offset or 0)
    )
    assert again[gone.image_id][1] == first[gone.image_id].offset


async def test_dropped_entries_are_gone_from_the_list_and_others_stay(space: Settings, producer: Producer) -> None:
    owner = Owner(type="dlq", id="drop")
    for error in ("first", "second"):
        await _dead_letter(space, producer, uploaded(owner=owner), error)
    await asyncio.to_thread(imagepipe, space, "dlq", "drop", "--yes", code=1)  # nothing chosen
    await asyncio.to_thread(imagepipe, space, "dlq", "drop", "--owner", owner.key, "--error", "first", "--yes")
    left = await unsettled(space, Filter(owner=owner))
    assert [letter.reason for letter in left] == ["ValueError: second"]


async def test_invalid_record_is_shown_redriven_and_dropped(engines: Settings) -> None:
    with isolated(engines, topics=True, bucket=True, topic_partitions=1) as settings:
        producer = Producer(settings)
        await producer.start()
        for offset, value in enumerate(POISON):
            headers = dead_letter_headers(
                [], topic=settings.topic(Topic.COMMANDS), partition=0, offset=offset, version=None,
                error=ValueError(f"poison {offset}."), attempts=1,
            )  # fmt: skip
            await KafkaDeadLetters(producer, settings).send(b"user:1", value, headers)
        await producer.close()

        listed = await asyncio.to_thread(imagepipe_json, settings, "dlq", "list")
        assert [row["error"] for row in listed] == [f"ValueError: poison {offset}." for offset in range(len(POISON))]
        assert "poison 0." in await asyncio.to_thread(imagepipe, settings, "dlq", "list")
        assert "[[[[" in await asyncio.to_thread(
            imagepipe, settings, "dlq", "show", listed[POISON.index(DEEP)]["entry"]
        )
        small = ["dlq", "redrive", "--error", "poison 0.", "--yes"]
        assert (await asyncio.to_thread(imagepipe_json, settings, *small))["redriven"] == 1
        dropped = await asyncio.to_thread(imagepipe_json, settings, "dlq", "drop", "--all", "--yes")
        assert dropped["dropped"] == len(POISON) - 1
        assert await asyncio.to_thread(imagepipe_json, settings, "dlq", "list") == []


async def test_tail_skips_invalid_records(engines: Settings) -> None:
    with isolated(engines, topics=True, topic_partitions=1) as settings:
        producer = Producer(settings)
        await producer.start()
        values = [value for value in POISON if value is None or len(value) < 1_000_000]
        for value in values:
            await producer.send(settings.topic(Topic.COMMANDS), value, key=b"user:1", headers=[])
        await producer.close()
        arguments = ["tail", "--topic", "commands", "--no-follow", "--from", "beginning"]
        lines = (await asyncio.to_thread(imagepipe, settings, *arguments)).splitlines()
        assert [line.split()[1] for line in lines] == [f"0:{offset}" for offset in range(len(values))]
        documents = (await asyncio.to_thread(imagepipe, settings, *arguments, "--json")).splitlines()
        assert [json.loads(each)["offset"] for each in documents] == list(range(len(values)))


def _failed(command: Uploaded, offset: int) -> Failed:
    version = command_version(1, offset)
    return failed(command.image_id, command.revision, version, owner=command.owner)


async def _dead_letter(settings: Settings, producer: Producer, command: Command, error: str) -> Appended:
    """Append a command, and dead-letter it as the processor would."""
    appended = await KafkaCommandLog(producer, settings, "imagepipe/test").append(command)
    headers = dead_letter_headers(
        cloud_event_headers(command, "imagepipe/test"), topic=settings.topic(Topic.COMMANDS),
        partition=appended.partition, offset=appended.offset or 0,
        version=command_version(settings.epoch, appended.offset or 0), error=ValueError(error), attempts=3,
    )  # fmt: skip
    await KafkaDeadLetters(producer, settings).send(command.owner.key.encode(), encode(command), headers)
    return appended


async def _last_commands(settings: Settings, owner: Owner) -> dict[UUID, tuple[int, int, int]]:
    """Partition, offset and version of the last command for each of the owner's images."""
    records: list[ConsumedRecord] = []
    await read_topic(settings, Topic.COMMANDS, records.extend)
    found: dict[UUID, tuple[int, int, int]] = {}
    for record in records:
        logged = read_command(record, settings.epoch)
        if logged.command.owner == owner and not isinstance(logged, LoggedFence):
            headers = record.present_headers
            assert all(not name.startswith("dlq-") for name, _ in headers)
            assert sum(name == VERSION_HEADER for name, _ in headers) <= 1
            found[logged.command.image_id] = (record.partition, record.offset, logged.version)
    return found

"""Records of the running services, taken from Kafka, have the published schemas, keys, headers and partitions."""

import json
import re
from typing import Any

import httpx
import jsonschema_rs
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event

from shared.contract.encoding import decode_command, decode_event
from shared.contract.events import Reprocess, Uploaded
from shared.contract.json_schema import COMMANDS, EVENTS
from shared.contract.keys import events_partition
from shared.kafka.producer import Producer
from shared.kafka.writers import KafkaCommandLog
from shared.settings import Settings, Topic
from tests.support.api import JPEG, Api, form
from tests.support.engines.stack import Stack
from tests.support.images import broken_png, encode, photo
from tests.support.log import reader
from tests.support.waiting import wait_for_async

OTHER = encode(photo(260, 180), "JPEG")


async def written(settings: Settings, topic: Topic, owner: str) -> list[Any]:
    """The owner's records in a topic up to now."""
    found: list[Any] = []
    async with reader(settings, topic) as consumer:
        while batches := await consumer.getmany(timeout_ms=1000):
            found += [record for records in batches.values() for record in records]
    return [record for record in found if record.value and json.loads(record.value)["owner"]["id"] == owner]


async def one_of_each(api: Api, stack: Stack, owner: dict[str, str]) -> None:
    """Cause every type of command and event. A reprocess of the first revision comes after the second one is ready."""
    image_id = api.settled(api.upload(JPEG, **owner)["image_id"])["image_id"]
    api.put(f"/images/{image_id}", files=form(("new.jpg", OTHER)), headers={"Prefer": "wait=30"}).raise_for_status()
    broken = api.settled(api.upload(broken_png(), **owner)["image_id"])
    assert broken["status"] == "failed"
    commands = await written(stack.settings, Topic.COMMANDS, owner["user_id"])
    first = decode_command(commands[0].value)
    assert isinstance(first, Uploaded)
    await reprocess_first_revision(stack.settings, first, stack.settings.epoch << 52 | commands[0].offset << 1)

    async def superseded() -> bool:
        events = await written(stack.settings, Topic.EVENTS, owner["user_id"])
        return any(decode_event(record.value).type == "image.superseded" for record in events)

    await wait_for_async(superseded, 60, "the reprocess to be superseded")
    api.delete(f"/images/{broken['image_id']}").raise_for_status()
    api.delete("/images", params=owner).raise_for_status()

    async def removed() -> bool:
        events = await written(stack.settings, Topic.EVENTS, owner["user_id"])
        return sum(decode_event(record.value).type == "image.removed" for record in events) >= 2

    await wait_for_async(removed, 60, "both images to be removed")


async def reprocess_first_revision(settings: Settings, first: Uploaded, version: int) -> None:
    command = Reprocess(
        image_id=first.image_id, owner=first.owner, image_version=version, revision=first.revision,
        revision_version=version, original=first.original, ladder=first.ladder,
    )  # fmt: skip
    producer = Producer(settings)
    await producer.start()
    try:
        await KafkaCommandLog(producer, settings, "imagepipe/reprocess").append(command)
    finally:
        await producer.close()


def published(base_url: str) -> dict[str, Any]:
    """The gateway's schemas by their `$id`."""
    listed = httpx.get(f"{base_url}/schemas/").raise_for_status().json()["schemas"]
    return {each["id"]: httpx.get(f"{base_url}/schemas/{each['type']}.v1.json").raise_for_status() for each in listed}


@pytest.mark.slow
async def test_records_in_kafka_are_as_published(api: Api, stack: Stack, owner: dict[str, str]) -> None:
    await one_of_each(api, stack, owner)
    schemas = published(stack.base_url)
    asyncapi = api.get("/asyncapi.json").raise_for_status().json()
    assert all(answer.headers["content-type"] == "application/schema+json" for answer in schemas.values())
    seen: set[str] = set()
    for topic, types in ((Topic.COMMANDS, COMMANDS), (Topic.EVENTS, EVENTS)):
        channel = asyncapi["channels"][topic.value.rpartition(".")[2]]
        assert channel["address"] == stack.settings.topic(topic)
        for record in await written(stack.settings, topic, owner["user_id"]):
            value, headers = json.loads(record.value), {name: text.decode() for name, text in record.headers}
            assert value["type"] in types
            seen.add(value["type"])
            jsonschema_rs.Draft202012Validator(schemas[headers["ce_dataschema"]].json()).validate(value)
            message = asyncapi["components"]["messages"][value["type"]]
            assert re.fullmatch(message["bindings"]["kafka"]["key"]["pattern"].strip("^$"), record.key.decode())
            trait = asyncapi["components"]["messageTraits"]["cloudEvent"]["headers"]
            jsonschema_rs.validator_for(trait).validate(headers)
            if topic is Topic.EVENTS:
                image_id = decode_event(record.value).image_id
                assert record.partition == events_partition(image_id, stack.settings.topic_partitions)
    assert seen == set(COMMANDS | EVENTS)


@pytest.mark.slow
async def test_the_cloudevents_package_reads_them(api: Api, stack: Stack, owner: dict[str, str]) -> None:
    image_id = api.settled(api.upload(JPEG, **owner)["image_id"])["image_id"]
    records = await written(stack.settings, Topic.EVENTS, owner["user_id"])
    assert records
    for record in records:
        event = from_kafka_event(KafkaMessage(headers=dict(record.headers), key=record.key, value=record.value))
        assert event.get_type() == "image.ready"
        assert event.get_subject() == image_id
        assert event.get_source() == "/imagepipe/processor"
        assert event.get_dataschema() == "urn:imagepipe:image.ready:v1"
        value = json.loads(record.value)
        assert event.get_id() == f"{image_id}:{value['version']}:image.ready"
        assert event.get_data() == value


def test_the_page_of_the_events_is_served(api: Api) -> None:
    answer = api.get("/events/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert '<h3 id="image.superseded">' in answer.text
    assert api.get("/schemas/image.ready.v2.json").status_code == 404
    assert api.head("/asyncapi.json").status_code == 200

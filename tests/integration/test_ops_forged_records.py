"""Every operators' command finishes on topics that hold forged records, and reports what it skipped."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from shared.consuming.dead_letters import dead_letter_headers
from shared.contract.encoding import encode
from shared.contract.headers import VERSION_HEADER, ReceivedHeaders
from shared.contract.keys import Owner
from shared.kafka.producer import Producer, client_options
from shared.kafka.writers import KafkaDeadLetters
from shared.settings import Settings, Topic
from tests.support.arbitrary import FORGED_ID
from tests.support.processes.imagepipe import imagepipe, imagepipe_json
from tests.support.raw_header_names import RawName, writing_raw_names
from tests.support.records import ready, uploaded
from tests.support.synthetic import Deployment

POISONER, OTHER = Owner(type="forged", id="2"), Owner(type="forged", id="3")


def changed(value: bytes, **fields: Any) -> bytes:
    """The record with other values, in its original where that has the field."""
    record = json.loads(value)
    for name, content in fields.items():
        (record["original"] if name in record.get("original", {}) else record)[name] = content
    return json.dumps(record).encode()


def upload(owner: Owner = POISONER) -> bytes:
    return encode(uploaded(owner=owner))


COMMANDS: list[tuple[bytes | None, bytes | None, ReceivedHeaders]] = [
    (b"forged:2", changed(upload(), image_id=FORGED_ID), []),
    (b"forged:2", changed(upload(), width=2**31), []),
    (b"forged:2", changed(upload(), size=2**63), []),
    (b"forged:3", upload(OTHER), [(VERSION_HEADER, b"9" * 5000)]),
    (None, b"junk", []),
    (None, b"junk", [("ce_type", None), (VERSION_HEADER, None), ("dlq-settles", b"5"), ("dlq-version", b"x")]),
    (b"dlq-settled:0:0", None, []),
    (None, b"junk", [(RawName(b"\xff"), b"x")]),
]
_image = uploaded(owner=POISONER)
READY = encode(ready(_image.image_id, _image.revision, 2, owner=POISONER))
EVENTS: list[bytes] = [changed(READY, image_id=FORGED_ID), changed(READY, version=str(2**63)), b"junk"]


@pytest.fixture
async def forged(world: Deployment) -> AsyncIterator[Settings]:
    """A deployment with images, whose topics hold forged records, and dead letters of them as the services write."""
    settings = world.settings
    await world.many(5, owners=2)
    raw = AIOKafkaProducer(**client_options(settings), acks="all")
    producer = Producer(settings)
    await raw.start()
    await producer.start()
    try:
        with writing_raw_names():
            await _append_forged(settings, raw, KafkaDeadLetters(producer, settings))
        yield settings
    finally:
        await raw.stop()
        await producer.close()


async def _append_forged(settings: Settings, raw: AIOKafkaProducer, dead_letters: KafkaDeadLetters) -> None:
    commands = settings.topic(Topic.COMMANDS)
    for key, value, headers in COMMANDS:
        sent = await raw.send_and_wait(commands, value, key=key, headers=list(headers))
        added = dead_letter_headers(
            headers, topic=commands, partition=sent.partition, offset=sent.offset, version=2,
            error=ValueError("poison"), attempts=1,
        )  # fmt: skip
        await dead_letters.send(key, value, added)
    await dead_letters.send(None, None, [])
    for value in EVENTS:
        await raw.send_and_wait(settings.topic(Topic.EVENTS), value, key=b"k")


async def test_every_command_finishes_and_reports_what_it_skipped(forged: Settings) -> None:
    async def command(*arguments: str) -> Any:
        return await asyncio.to_thread(imagepipe_json, forged, *arguments)

    invalid = len(COMMANDS) + len(EVENTS)
    for arguments in (
        ["verify", "--pause", "0"],
        ["gc"],
        ["reindex", "--into", f"{forged.cassandra_keyspace}_b", "--compare", "--yes"],
    ):
        assert (await command(*arguments))["skipped"]["records"] == invalid, arguments
    readable = await asyncio.to_thread(imagepipe, forged, "verify", "--pause", "0")
    assert f"{invalid} records are not valid and were skipped" in readable
    assert f"{Topic.COMMANDS} " in readable
    assert "image_id" in readable
    replayed = await command("replay", "--from", "beginning", "--yes")
    assert replayed["skipped"]["records"] == len(COMMANDS)
    assert (await command("reprocess", "--where", "all", "--dry-run"))["matched"] == 5

    listed = await command("dlq", "list")
    assert len(listed) == len(COMMANDS) + 1
    assert {row["attempts"] for row in listed} == {0, 1}
    # Redriven with the version of its entry, this record would be valid.
    assert (await command("dlq", "drop", "--owner", OTHER.key, "--yes"))["dropped"] == 1
    redriven = await command("dlq", "redrive", "--all", "--yes")
    # One entry was written without a source.
    assert (redriven["redriven"], len(redriven["refused"])) == (len(COMMANDS) - 1, 1)
    assert (await command("dlq", "drop", "--all", "--yes"))["dropped"] == 1
    assert await command("dlq", "list") == []

    assert (await command("verify", "--pause", "0"))["skipped"]["records"] == invalid + len(COMMANDS) - 1
    tail = await asyncio.to_thread(imagepipe, forged, "tail", "--no-follow", "--from", "beginning", "--json")
    assert sum(FORGED_ID in line for line in tail.splitlines()) == 1


async def test_owner_of_forged_records_is_erased(forged: Settings) -> None:
    # No image of this owner is valid, so the erasure needs no processor.
    done = await asyncio.to_thread(imagepipe_json, forged, "erase", "--owner", POISONER.key, "--yes")
    assert done["complete"]
    assert done["images"] == []
    # A record that names the owner is erased with any headers.
    assert done["skipped"]["records"] == len(COMMANDS) + len(EVENTS) - 1
    assert done["removed"]["dlq_entries_closed"] == 3

"""The entries of the DLQ, the markers that settle them, and the record that is sent to its topic once more."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from indexer.fence import Fence
from ops.log.copy import copied_command
from ops.log.dead_letter_queue import DROPPED, DeadLetter, Entries, redrive, settle
from ops.log.resending import REDRIVES_HEADER
from shared.consuming.dead_letters import dead_letter_headers
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import decode_command, encode
from shared.contract.events import Command, OwnerCleared
from shared.contract.headers import VERSION_HEADER, Headers
from shared.contract.keys import Owner, command_version
from shared.contract.logged_command import LoggedFence, read_command, versioned
from shared.errors import PoisonRecord, Unavailable
from shared.kafka.producer import Producer
from shared.kafka.writers import KafkaDeadLetters
from shared.ports import Appended
from shared.read_model.tables import command_writes
from shared.settings import Settings, Topic
from tests.support.memory.ports import MemoryCommandLog, MemoryIndex, MemoryStore
from tests.support.records import uploaded

OWNER = Owner(type="user", id="1")
SETTINGS = Settings(_env_file=None)
FENCE, AGAIN = 7, 99
"""Offset of a fence, and of the same after it was redriven."""


class Sent:
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes | None, Headers]] = []

    async def partitions(self, _topic: str) -> int:
        return 8

    async def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Headers, partition: int | None = None
    ) -> Appended:
        self.records.append((topic, value, headers))
        return Appended(partition or 0, AGAIN)


async def redriven(command: Command, version: int | None = command_version(1, FENCE)) -> tuple[Command, Headers]:
    headers = dead_letter_headers(
        [("ce_type", command.type.encode())], topic=SETTINGS.topic(Topic.COMMANDS), partition=3, offset=FENCE,
        version=version, error=ValueError("boom"), attempts=3,
    )  # fmt: skip
    content = {"type": command.type, "owner": OWNER.key, "image_id": None}
    letter = DeadLetter(3, 0, datetime.now(UTC), OWNER.key.encode(), encode(command), headers, content)
    sent = Sent()
    assert await redrive(letter, SETTINGS, cast(Producer, sent), MemoryStore()) == "redriven"
    topic, value, kept = sent.records[0]
    assert topic == SETTINGS.topic(Topic.COMMANDS)
    return decode_command(value), kept


async def test_a_fence_spares_what_was_uploaded_after_it() -> None:
    index, log = MemoryIndex(), MemoryCommandLog()
    before, after = uploaded(owner=OWNER), uploaded(owner=OWNER)
    for command, offset in ((before, FENCE - 1), (after, FENCE + 1)):
        await index.apply(command_writes(versioned(command, command_version(1, offset)), 1))
    fence, headers = await redriven(OwnerCleared(owner=OWNER))
    logged = read_command(SimpleNamespace(value=encode(fence), offset=AGAIN, headers=headers), 1)
    assert isinstance(logged, LoggedFence)
    assert logged.version == command_version(1, AGAIN)
    await Fence(index, log, epoch=1, shards=1, on_progress=lambda: None).clear(logged)
    assert [command.image_id for command in log.commands if not isinstance(command, OwnerCleared)] == [before.image_id]


@pytest.mark.parametrize("version", [command_version(1, FENCE), None])
async def test_a_fence_is_bounded_by_the_version_it_had(version: int | None) -> None:
    fence, headers = await redriven(OwnerCleared(owner=OWNER), version)
    assert fence == OwnerCleared(owner=OWNER, before=command_version(1, FENCE))
    assert headers == [("ce_type", b"owner.cleared"), (REDRIVES_HEADER, b"3:0")]


async def test_a_fence_with_a_bound_keeps_it() -> None:
    fence = OwnerCleared(owner=OWNER, before=5, keep=(uploaded().image_id,))
    assert (await redriven(fence))[0] == fence


async def test_an_upload_keeps_its_value_and_its_version() -> None:
    command = uploaded(owner=OWNER)
    found, headers = await redriven(command)
    assert found == command
    assert (VERSION_HEADER, str(command_version(1, FENCE)).encode()) in headers


class Dlq:
    """One partition of the DLQ, and a producer that appends to it; what goes to other topics is in `sent`."""

    def __init__(self) -> None:
        self.records: list[ConsumedRecord] = []
        self.sent: list[tuple[str, bytes | None, bytes | None, Headers, int | None]] = []
        self.failures: list[str] = []
        """Topics at which the next writes fail."""

    async def partitions(self, _topic: str) -> int:
        return 8

    async def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Headers, partition: int | None = None
    ) -> Appended:
        # aiokafka asserts the same.
        assert not (value is None and key is None)
        if topic in self.failures:
            self.failures.remove(topic)
            raise Unavailable("kafka", "away")
        if topic != SETTINGS.topic(Topic.DLQ):
            self.sent.append((topic, key, value, headers, partition))
            return Appended(0, 1)
        self.records.append(ConsumedRecord(Topic.DLQ, partition or 0, len(self.records), key, value, headers, 1.0))
        return Appended(0, len(self.records) - 1)

    async def dead_letter(
        self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), **place: Any
    ) -> None:
        """Write a dead letter as the services do."""
        fields: dict[str, Any] = {
            "topic": SETTINGS.topic(Topic.COMMANDS),
            "partition": 3,
            "offset": FENCE,
            "version": None,
        } | place
        added = dead_letter_headers(headers, **fields, error=ValueError("boom"), attempts=3)
        await KafkaDeadLetters(cast(Producer, self), SETTINGS).send(key, value, added)

    def open(self) -> list[DeadLetter]:
        entries = Entries(lambda letter: letter, lambda _letter, _action: None)
        entries.add(self.records)
        return list(entries.open.values())

    async def redrive(self, letter: DeadLetter) -> str:
        return await redrive(letter, SETTINGS, cast(Producer, self), MemoryStore())

    async def drop(self, letter: DeadLetter) -> None:
        await settle(letter, SETTINGS, cast(Producer, self), DROPPED)


@pytest.mark.parametrize("key", [None, b"", b"user:1", b"dlq-settled:0:0"])
@pytest.mark.parametrize("value", [b"junk", b"", None])
async def test_entry_with_and_without_a_key_is_redriven_or_dropped_once(key: bytes | None, value: bytes | None) -> None:
    for drops in (True, False):
        dlq = Dlq()
        await dlq.dead_letter(key, value)
        await dlq.dead_letter(key, value)
        first, second = dlq.open()
        await (dlq.drop(first) if drops else dlq.redrive(first))
        assert [letter.name for letter in dlq.open()] == [second.name]
        await dlq.drop(second)
        assert dlq.open() == []
        # Each marker has a key of its own, so that compaction keeps both markers and removes no entry.
        assert len({record.key for record in dlq.records[2:]}) == 2


async def test_only_a_marker_is_a_marker() -> None:
    dlq = Dlq()
    await dlq.dead_letter(b"k", b"first")
    # Records that came from another topic with the key or the headers of a marker.
    await dlq.dead_letter(b"dlq-settled:0:0", None)
    await dlq.dead_letter(b"k", b"x", [("dlq-settles", b"0"), ("dlq-action", b"dropped"), ("dlq-source-topic", b"x")])
    await dlq.dead_letter(b"k", b"x", [("dlq-settles", b"not a number"), ("dlq-attempts", b"9" * 5000)])
    dlq.records.append(ConsumedRecord(Topic.DLQ, 0, len(dlq.records), b"dlq-settled:0:0", b"a value", [], 1.0))
    assert [letter.name for letter in dlq.open()] == ["0:0", "0:1", "0:2", "0:3", "0:4"]
    assert [letter.document()["attempts"] for letter in dlq.open()] == [3, 3, 3, 3, 0]


async def test_own_headers_are_restored_by_a_redrive() -> None:
    dlq, own = Dlq(), [("dlq-settles", b"x"), ("ce_type", b"image.ready")]
    await dlq.dead_letter(b"k", b"x", own, topic=SETTINGS.topic(Topic.EVENTS))
    await dlq.redrive(dlq.open()[0])
    assert dlq.sent == [(SETTINGS.topic(Topic.EVENTS), b"k", b"x", [*own, (REDRIVES_HEADER, b"0:0")], 3)]


@pytest.mark.parametrize("fails_again", [True, False])
async def test_redrive_that_failed_half_way_leaves_one_entry(fails_again: bool) -> None:
    dlq = Dlq()
    await dlq.dead_letter(None, b"junk")
    (letter,) = dlq.open()
    for _ in range(3):
        dlq.failures = [SETTINGS.topic(Topic.DLQ)]
        with pytest.raises(Unavailable):
            await dlq.redrive(letter)
    assert [each.name for each in dlq.open()] == ["0:0"]
    if fails_again:
        for offset, (topic, key, value, headers, partition) in enumerate(list(dlq.sent)):
            await dlq.dead_letter(key, value, headers, topic=topic, partition=partition, offset=100 + offset)
    else:
        await dlq.redrive(letter)
    assert [each.name for each in dlq.open()] == (["0:3"] if fails_again else [])
    for each in dlq.open():
        await dlq.drop(each)
    assert dlq.open() == []


@pytest.mark.parametrize(
    "headers",
    [
        {"dlq-source-topic": b"of.another.deployment"}, {"dlq-source-topic": None}, {"dlq-source-partition": b"8"},
        {"dlq-source-partition": b"many"}, {"dlq-version": b"%d" % 2**63, "dlq-source-offset": b"x"},
        {"dlq-source-offset": b"%d" % (2**63 - 1)},
    ],
)  # fmt: skip
async def test_entry_without_a_source_is_refused_and_stays_open(headers: dict[str, bytes | None]) -> None:
    dlq = Dlq()
    await dlq.dead_letter(b"k", encode(uploaded()))
    record = dlq.records.pop()
    forged = dict(record.present_headers) | headers
    dlq.records.append(replace(record, headers=list(forged.items())))
    with pytest.raises(PoisonRecord):
        await dlq.redrive(dlq.open()[0])
    assert (len(dlq.open()), dlq.sent) == (1, [])


async def test_copy_of_a_redriven_record_names_no_entry() -> None:
    dlq = Dlq()
    await dlq.dead_letter(b"k", encode(uploaded()))
    await dlq.redrive(dlq.open()[0])
    ((_, key, value, headers, _),) = dlq.sent
    assert (REDRIVES_HEADER, b"0:0") in headers
    _, copied = copied_command(ConsumedRecord(Topic.COMMANDS, 0, 9, key, value, headers), 1)
    assert REDRIVES_HEADER not in dict(copied)

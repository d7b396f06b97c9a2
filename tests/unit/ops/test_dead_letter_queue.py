"""The record of a dead letter that is sent to its topic once more."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from indexer.fence import Fence
from ops.log.dead_letter_queue import DeadLetter, redrive
from shared.consuming.dead_letters import dead_letter_headers
from shared.contract.encoding import decode_command, encode
from shared.contract.events import Command, OwnerCleared
from shared.contract.headers import VERSION_HEADER, Headers
from shared.contract.keys import Owner, command_version
from shared.contract.logged_command import LoggedFence, read_command, versioned
from shared.kafka.producer import Producer
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
    assert headers == [("ce_type", b"owner.cleared")]


async def test_a_fence_with_a_bound_keeps_it() -> None:
    fence = OwnerCleared(owner=OWNER, before=5, keep=(uploaded().image_id,))
    assert (await redriven(fence))[0] == fence


async def test_an_upload_keeps_its_value_and_its_version() -> None:
    command = uploaded(owner=OWNER)
    found, headers = await redriven(command)
    assert found == command
    assert (VERSION_HEADER, str(command_version(1, FENCE)).encode()) in headers

"""A copied command keeps every field and version that decides about it."""

import json
from collections.abc import AsyncIterator
from typing import cast

import pytest

from ops.log.copy import TopicCopy, copied_command, source_settings
from ops.log.reader import TopicReader
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import encode
from shared.contract.events import Command, OwnerCleared
from shared.contract.headers import VERSION_HEADER, ReceivedHeaders
from shared.contract.keys import Owner, command_version
from shared.contract.logged_command import LoggedFence, read_command, versioned
from shared.errors import ConfigurationError, PoisonRecord, RecordTooLarge, Unavailable
from shared.kafka.producer import Producer
from shared.settings import Settings, Topic
from tests.support.records import deleted, uploaded

OWNER = Owner(type="user", id="1")
UPLOAD = uploaded(owner=OWNER)


def consumed(value: bytes | None, offset: int, headers: ReceivedHeaders = (), partition: int = 0) -> ConsumedRecord:
    return ConsumedRecord(Topic.COMMANDS, partition, offset, b"", value, headers)


def copied(command: Command, offset: int, *headers: tuple[str, bytes]) -> ConsumedRecord:
    """The record of the copy, at offset 99 of a topic of epoch 2; the command was at `offset` of one of epoch 1."""
    value, kept = copied_command(consumed(encode(command), offset, headers), 1)
    return consumed(value, 99, kept)


def test_upload_keeps_its_version_at_any_offset_of_its_copy() -> None:
    copy = copied(UPLOAD, 7, ("ce_type", b"image.uploaded"))
    assert read_command(copy, 2) == versioned(UPLOAD, command_version(1, 7))
    assert ("ce_type", b"image.uploaded") in copy.headers


def test_a_copy_keeps_the_fields_of_a_later_version_of_the_software() -> None:
    value = json.dumps(json.loads(encode(UPLOAD)) | {"later": 1}).encode()
    assert copied_command(consumed(value, 7), 1)[0] == value


def test_a_redriven_upload_keeps_its_first_version() -> None:
    copy = copied(UPLOAD, 7, (VERSION_HEADER, b"4503599627370502"))
    assert read_command(copy, 2).version == 4503599627370502
    assert len(copy.headers) == 1


def test_a_delete_wins_over_everything_before_it() -> None:
    copy = copied(deleted(UPLOAD.image_id, OWNER), 7)
    assert read_command(copy, 2).version == command_version(2, 99)


def test_a_fence_clears_nothing_that_came_after_it() -> None:
    fence = read_command(copied(OwnerCleared(owner=OWNER), 7), 2)
    assert isinstance(fence, LoggedFence)
    assert fence.before == command_version(1, 7)
    assert read_command(copied(UPLOAD, 8), 2).version > fence.before


def test_a_fence_with_a_bound_keeps_it() -> None:
    fence = OwnerCleared(owner=OWNER, before=5, keep=(UPLOAD.image_id,))
    assert read_command(copied(fence, 7), 2).command == fence


def test_invalid_record_has_no_copy() -> None:
    with pytest.raises(PoisonRecord):
        copied_command(consumed(b"?", 1), 1)


@pytest.mark.parametrize(("prefix", "epoch", "complaint"), [("new.", 1, "TOPIC_PREFIX"), ("old.", 2, "EPOCH is 2")])
def test_source_with_the_same_topics_is_refused(prefix: str, epoch: int, complaint: str) -> None:
    settings = Settings(_env_file=None, topic_prefix="new.", epoch=2)
    assert source_settings(settings, "old.", 1).topic_prefix == "old."
    with pytest.raises(ConfigurationError, match=complaint):
        source_settings(settings, prefix, epoch)


class TwoRecords:
    """A reader of a topic with one upload in each of two partitions."""

    async def beginnings(self) -> dict[int, int]:
        return {0: 0, 1: 0}

    async def ends(self) -> dict[int, int]:
        return {0: 1, 1: 1}

    async def read(self, _start: object, _end: object) -> AsyncIterator[list[ConsumedRecord]]:
        yield [consumed(encode(UPLOAD), 1, partition=number) for number in (0, 1)]


TWO_RECORDS = cast(TopicReader, TwoRecords())


def copy_of_two_records(error: Exception) -> TopicCopy:
    """A copy whose producer raises this error at each record."""

    class Failing:
        async def send(self, *_record: object, **_rest: object) -> None:
            raise error

    settings = Settings(_env_file=None, topic_prefix="new.", epoch=2)
    return TopicCopy(source_settings(settings, "old.", 1), settings, cast(Producer, Failing()))


async def test_outage_of_the_source_is_unavailable() -> None:
    """Of several partitions that fail at once."""
    copying = copy_of_two_records(Unavailable("kafka", "away"))
    with pytest.raises(Unavailable, match="away"):
        await copying.run(TWO_RECORDS, Topic.COMMANDS, lambda count=1: None)
    assert not copying.counts


async def test_a_record_that_is_too_large_for_the_target_is_skipped() -> None:
    copying = copy_of_two_records(RecordTooLarge("3 MB"))
    await copying.run(TWO_RECORDS, Topic.COMMANDS, lambda count=1: None)
    assert (copying.skipped.count, dict(copying.counts)) == (2, {})

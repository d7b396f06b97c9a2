"""An owner's command counts as unanswered until its answer is in the log and its position is committed."""

from collections.abc import Callable, Sequence

import pytest
from aiokafka import TopicPartition

from ops.log import unanswered
from ops.log.reader import Offsets
from ops.log.unanswered import Unanswered
from processor.consuming.faust_app import GROUP
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import encode
from shared.contract.events import answer_key
from shared.contract.keys import command_version
from shared.settings import Settings, Topic
from tests.support import records

SETTINGS = Settings(_env_file=None, topic_prefix="eu.")
UPLOAD = records.uploaded()
COMMAND = ConsumedRecord(Topic.COMMANDS, 1, 7, b"k", encode(UPLOAD))
ANSWER = ConsumedRecord(
    Topic.EVENTS, 0, 3, answer_key(UPLOAD.image_id, command_version(SETTINGS.epoch, COMMAND.offset)), b"{}"
)


@pytest.mark.parametrize(
    ("answers", "position", "expected"),
    [([], 0, 1), ([ANSWER], 7, 1), ([ANSWER], 8, 0)],
    ids=["not answered", "answered and not committed", "committed"],
)
async def test_command_is_unanswered_until_its_position_is_committed(
    answers: list[ConsumedRecord], position: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = {Topic.COMMANDS: [COMMAND], Topic.EVENTS: answers}

    async def read_topic(
        _settings: Settings, topic: Topic, take: Callable[[Sequence[ConsumedRecord]], None], *, start: Offsets
    ) -> Offsets:
        take(log[topic])
        return start

    async def committed_offsets(_settings: Settings) -> dict[str, dict[TopicPartition, int]]:
        return {f"eu.{GROUP}": {TopicPartition("eu.images.commands", COMMAND.partition): position}}

    monkeypatch.setattr(unanswered, "read_topic", read_topic)
    monkeypatch.setattr(unanswered, "committed_offsets", committed_offsets)
    left = Unanswered(SETTINGS, UPLOAD.owner, {Topic.COMMANDS: {}, Topic.EVENTS: {}})
    assert await left.count() == expected

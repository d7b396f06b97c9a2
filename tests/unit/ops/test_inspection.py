"""An inspection reads the log in an order in which no answer comes before its command."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, cast

import pytest

from ops.checks import inspection
from ops.checks.inspection import Inspection
from ops.terminal.output import Output
from shared.consuming.record import ConsumedRecord
from shared.settings import Topic
from tests.support.memory.gateway import memory_settings


class GrowingLog:
    """Topics that get a command and its answer each time the commands have been read to their end."""

    def __init__(self) -> None:
        self.ends = dict.fromkeys(Topic, 1)
        self.read: dict[Topic, int] = {}

    async def topic_ends(self, _settings: Any, topic: Topic) -> dict[int, int]:
        return {0: self.ends[topic]}

    async def read_topic(
        self,
        _settings: Any,
        topic: Topic,
        _take: Callable[[Sequence[ConsumedRecord]], None],
        *_output: Any,
        start: dict[int, int] | None,
        end: dict[int, int] | None,
    ) -> dict[int, int]:
        assert start is None or start == {0: self.read[topic]}
        self.read[topic] = self.ends[topic] if end is None else end[0]
        if topic is Topic.COMMANDS:
            self.ends = {each: number + 1 for each, number in self.ends.items()}
        return {0: self.read[topic]}


async def test_answer_that_is_appended_meanwhile_is_read_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    log = GrowingLog()
    monkeypatch.setattr(inspection, "topic_ends", log.topic_ends)
    monkeypatch.setattr(inspection, "read_topic", log.read_topic)

    async def no_tombstones(_store: Any) -> set[Any]:
        return set()

    monkeypatch.setattr(inspection, "tombstones", no_tombstones)
    output = Output()
    check = Inspection(
        memory_settings(), cast(Any, None), cast(Any, None), output, grace=timedelta(0), with_checksums=False
    )

    for _ in range(3):
        await check.catch_up()
        assert log.read[Topic.EVENTS] <= log.read[Topic.COMMANDS]
        assert log.read[Topic.DLQ] <= log.read[Topic.COMMANDS]

"""Which of an owner's commands the processors have not answered yet, or may answer once more."""

from collections.abc import Callable, Sequence
from typing import Self

from aiokafka import TopicPartition

from ops.log.consumer_groups import committed_offsets
from ops.log.reader import Offsets, TopicReader, read_topic
from shared.consuming.record import ConsumedRecord
from shared.contract.events import answer_key
from shared.contract.keys import Owner
from shared.contract.logged_command import LoggedFence, read_command
from shared.errors import PoisonRecord
from shared.settings import Settings, Topic


class Unanswered:
    """The owner's commands that were appended after `from_now`, whoever sent them.

    1. An image's commands are answered in their order: with a delete that comes later, the earlier ones are settled.
    2. What is answered counts until the processors have committed it: one that restarts before would answer again.

    Methods raise Unavailable, KafkaError.
    """

    def __init__(self, settings: Settings, owner: Owner, positions: dict[Topic, Offsets]) -> None:
        from processor.consuming.faust_app import GROUP

        self._settings = settings
        self._group = settings.topic_prefix + GROUP
        self._owner = owner
        self._positions = positions
        self._keys: set[bytes] = set()
        """Of answers that are missing."""
        self._places: dict[TopicPartition, list[int]] = {}
        """Offsets of commands that are not committed."""

    @classmethod
    async def from_now(cls, settings: Settings, owner: Owner) -> Self:
        """Watch what comes from now on."""
        positions: dict[Topic, Offsets] = {}
        for topic in (Topic.EVENTS, Topic.COMMANDS):
            async with TopicReader(settings, topic) as reader:
                positions[topic] = await reader.ends()
        return cls(settings, owner, positions)

    async def look(self) -> int:
        """How many there are now."""
        # Events first: what they answer is then among the commands that are read.
        answered: set[bytes | None] = set()
        await self._read_on(Topic.EVENTS, lambda records: answered.update(record.key for record in records))
        await self._read_on(Topic.COMMANDS, self._add_commands)
        self._keys -= answered
        return len(self._keys) or await self._uncommitted()

    def _add_commands(self, records: Sequence[ConsumedRecord]) -> None:
        for record in records:
            try:
                logged = read_command(record, self._settings.epoch)
            except PoisonRecord:
                continue
            if logged.command.owner == self._owner and not isinstance(logged, LoggedFence):
                self._keys.add(answer_key(logged.command.image_id, logged.version))
                place = TopicPartition(self._settings.topic(record.topic), record.partition)
                self._places.setdefault(place, []).append(record.offset)

    async def _uncommitted(self) -> int:
        if not self._places:
            return 0
        committed = (await committed_offsets(self._settings)).get(self._group, {})
        return sum(offset >= committed.get(place, 0) for place, offsets in self._places.items() for offset in offsets)

    async def _read_on(self, topic: Topic, take: Callable[[Sequence[ConsumedRecord]], None]) -> None:
        self._positions[topic] = await read_topic(self._settings, topic, take, start=self._positions[topic])

"""Finds the commands of an owner that the processors have not answered yet, or may answer again."""

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
    """Counts the open commands of an owner, from any sender, that were appended after `from_now`.

    1. Commands that were appended before need not be counted. The processors answer the commands of an image in order,
       so they are settled when a later delete of the image is settled.
    2. An answered command counts until the processors have committed it, because a processor that restarts before the
       commit would answer again.

    The methods raise Unavailable, KafkaError.
    """

    def __init__(self, settings: Settings, owner: Owner, positions: dict[Topic, Offsets]) -> None:
        from processor.consuming.faust_app import GROUP

        self._settings = settings
        self._group = settings.topic_prefix + GROUP
        self._owner = owner
        self._positions = positions
        self._keys: set[bytes] = set()
        """Keys of the missing answers."""
        self._places: dict[TopicPartition, list[int]] = {}
        """Offsets of the owner's commands in each partition."""

    @classmethod
    async def from_now(cls, settings: Settings, owner: Owner) -> Self:
        """Start to count with the next record of each topic."""
        positions: dict[Topic, Offsets] = {}
        for topic in (Topic.EVENTS, Topic.COMMANDS):
            async with TopicReader(settings, topic) as reader:
                positions[topic] = await reader.ends()
        return cls(settings, owner, positions)

    async def count(self) -> int:
        """Read the new records; returns the number of open commands."""
        # Read the events first: the commands that they answer are then in the commands topic already.
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

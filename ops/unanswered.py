"""Which of an owner's commands the processors have not answered yet."""

from collections.abc import AsyncIterator
from typing import Self

from ops.topic_reader import Offsets, Record, TopicReader, read_command
from shared.errors import PoisonRecord
from shared.events import OwnerCleared, answer_key
from shared.keys import Owner
from shared.settings import Settings, Topic


class Unanswered:
    """The owner's commands that were appended after `from_now`, whoever sent them. Methods raise Unavailable.

    An image's commands are answered in their order: with a delete that comes later, the earlier ones are settled too.
    """

    def __init__(self, settings: Settings, owner: Owner, positions: dict[Topic, Offsets]) -> None:
        self._settings = settings
        self._owner = owner
        self._positions = positions
        self._keys: set[bytes] = set()

    @classmethod
    async def from_now(cls, settings: Settings, owner: Owner) -> Self:
        """Watch what comes from now on."""
        positions: dict[Topic, Offsets] = {}
        for topic in (Topic.EVENTS, Topic.COMMANDS):
            async with TopicReader(settings, settings.topic(topic)) as reader:
                positions[topic] = await reader.ends()
        return cls(settings, owner, positions)

    async def look(self) -> int:
        """How many have no answer in the log now."""
        # Events first: what they answer is then among the commands that are read.
        answered = {record.key async for record in self._news(Topic.EVENTS)}
        async for record in self._news(Topic.COMMANDS):
            try:
                command, version = read_command(record, self._settings.epoch)
            except PoisonRecord:
                continue
            if command.owner == self._owner and not isinstance(command, OwnerCleared):
                self._keys.add(answer_key(command.image_id, version))
        self._keys -= answered
        return len(self._keys)

    async def _news(self, topic: Topic) -> AsyncIterator[Record]:
        async with TopicReader(self._settings, self._settings.topic(topic)) as reader:
            start, end = self._positions[topic], await reader.ends()
            async for batch in reader.read(start, end):
                for record in batch:
                    yield record
            self._positions[topic] = end

"""Copies commands and events into other topics, so that the log goes on with more partitions or in another cluster.

1. A command keeps its version, but for deletes and fences: `ops.log.resending` says why.
2. Each partition is copied in its order, one record after the other's ack. An owner's records come from one partition,
   an image's events too; so their order is the same in the copy, whatever partition they are in there.
3. Repetition is harmless: a copied record says all that decides, and its second copy has nothing to change.
"""

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from ops.log.reader import TopicReader
from ops.log.resending import resent
from ops.terminal.output import Advance
from shared.concurrency import for_each
from shared.consuming.record import ConsumedRecord
from shared.contract.headers import Headers
from shared.contract.keys import events_partition
from shared.contract.logged_command import read_command
from shared.errors import ConfigurationError, PoisonRecord
from shared.kafka.producer import Producer
from shared.settings import Settings, Topic


def source_settings(settings: Settings, prefix: str, epoch: int, servers: str | None = None) -> Settings:
    """Settings of the topics to copy from. `servers`: another cluster's KAFKA_BOOTSTRAP_SERVERS.

    Raises ConfigurationError where the copy could not be told from them.
    """
    if prefix == settings.topic_prefix and servers is None:
        raise ConfigurationError(f"the settings' own topics have the prefix {prefix!r}: set TOPIC_PREFIX to a new one")
    if epoch >= settings.epoch:
        raise ConfigurationError(
            f"EPOCH is {settings.epoch} and must be above {epoch}, so that new commands win over the copied ones"
        )
    changes = {"topic_prefix": prefix, "epoch": epoch, "kafka_bootstrap_servers": servers}
    return settings.model_copy(update={name: value for name, value in changes.items() if value is not None})


class TopicCopy:
    """One copy of commands and events; `counts` says what was done with how many records."""

    def __init__(self, source: Settings, target: Settings, producer: Producer) -> None:
        self.counts: Counter[str] = Counter()
        self._source = source
        self._target = target
        self._producer = producer

    async def run(self, reader: TopicReader, topic: Topic, advance: Advance) -> None:
        """Copy what the topic has now. Raises Unavailable, UnknownOutcome."""
        end = await reader.ends()
        async for batch in reader.read(await reader.beginnings(), end):
            partitions: dict[int, list[ConsumedRecord]] = {}
            for record in batch:
                partitions.setdefault(record.partition, []).append(record)
            await for_each(
                partitions.values(), lambda records: self._copy(records, topic, advance), at_once=len(partitions)
            )

    async def _copy(self, records: Sequence[ConsumedRecord], topic: Topic, advance: Advance) -> None:
        for record in records:
            done = await (self._command(record) if topic is Topic.COMMANDS else self._event(record))
            self.counts[done] += 1
            advance()

    async def _command(self, record: ConsumedRecord) -> str:
        try:
            value, headers = copied_command(record, self._source.epoch)
        except PoisonRecord:
            # It has no version to keep; what became of it is in the DLQ of the topic it is in.
            return "poison"
        await self._producer.send(self._target.topic(Topic.COMMANDS), value, key=record.key, headers=headers)
        return "commands"

    async def _event(self, record: ConsumedRecord) -> str:
        try:
            image_id = UUID((record.key or b"").decode().partition(":")[0])
        except ValueError:
            return "poison"
        topic = self._target.topic(Topic.EVENTS)
        partition = events_partition(image_id, await self._producer.partitions(topic))
        # Without a value, too: it is what makes an erased owner's event go.
        await self._producer.send(
            topic, record.value, key=record.key, headers=record.present_headers, partition=partition
        )
        return "events"


def copied_command(record: ConsumedRecord, epoch: int) -> tuple[bytes | None, Headers]:
    """Value and headers of a command's copy; `epoch` is that of its own topic. Raises PoisonRecord."""
    return resent(record.value, read_command(record, epoch), record.present_headers)

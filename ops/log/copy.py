"""Copies commands and events into other topics, to continue with more partitions or in another cluster.

1. A render command keeps its version. Deletes and fences get a new one; `ops.log.resending` gives the reason.
2. Each partition is copied in order: a record is sent after the ack of the one before. All commands of an owner come
   from one partition, and all events of an image too. So their order is the same in the copy, in any partition.
3. The copy may be repeated: a record that is copied twice has the same effect as one copy.
"""

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from ops.log.reader import TopicReader
from ops.log.resending import REDRIVES_HEADER, resent, without
from ops.log.skipped import Skipped
from ops.terminal.output import Advance
from shared.concurrency import for_each
from shared.consuming.record import ConsumedRecord
from shared.contract.headers import Headers
from shared.contract.keys import events_partition
from shared.contract.logged_command import read_command
from shared.errors import ConfigurationError, PoisonRecord, RecordTooLarge
from shared.kafka.producer import Producer
from shared.settings import Settings, Topic


def source_settings(settings: Settings, prefix: str, epoch: int, servers: str | None = None) -> Settings:
    """Settings of the topics to copy from. `servers` are KAFKA_BOOTSTRAP_SERVERS of another cluster.

    Raises ConfigurationError if source and target are the same topics, or if the target's EPOCH is not higher.
    """
    if prefix == settings.topic_prefix and servers is None:
        raise ConfigurationError(f"TOPIC_PREFIX is {prefix!r}, like the topics to copy from: set it to a new prefix")
    if epoch >= settings.epoch:
        raise ConfigurationError(
            f"EPOCH is {settings.epoch}, but must be above {epoch}, so that new commands have higher versions than the "
            "copied ones"
        )
    changes = {"topic_prefix": prefix, "epoch": epoch, "kafka_bootstrap_servers": servers}
    return settings.model_copy(update={name: value for name, value in changes.items() if value is not None})


class TopicCopy:
    """One copy of commands and events. `counts` has the numbers of copied records, `skipped` the other records."""

    def __init__(self, source: Settings, target: Settings, producer: Producer) -> None:
        self.counts: Counter[str] = Counter()
        self.skipped = Skipped()
        self._source = source
        self._target = target
        self._producer = producer

    async def run(self, reader: TopicReader, topic: Topic, advance: Advance) -> None:
        """Copy the topic up to its present end. Invalid records, and those that are too large, are skipped.

        Raises Unavailable, UnknownOutcome.
        """
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
            try:
                await (self._command(record) if topic is Topic.COMMANDS else self._event(record))
            except (PoisonRecord, RecordTooLarge) as error:
                self.skipped.add(record, error)
            else:
                self.counts["commands" if topic is Topic.COMMANDS else "events"] += 1
            advance()

    async def _command(self, record: ConsumedRecord) -> None:
        # A record that cannot be parsed is not copied. It is in the DLQ of the source topics.
        value, headers = copied_command(record, self._source.epoch)
        await self._producer.send(self._target.topic(Topic.COMMANDS), value, key=record.key, headers=headers)

    async def _event(self, record: ConsumedRecord) -> None:
        try:
            image_id = UUID((record.key or b"").decode().partition(":")[0])
        except ValueError:
            raise PoisonRecord("the key names no image") from None
        topic = self._target.topic(Topic.EVENTS)
        partition = events_partition(image_id, await self._producer.partitions(topic))
        # Events without a value are copied too: they make compaction remove the events of an erased owner.
        headers = without(record.present_headers, REDRIVES_HEADER)
        await self._producer.send(topic, record.value, key=record.key, headers=headers, partition=partition)


def copied_command(record: ConsumedRecord, epoch: int) -> tuple[bytes | None, Headers]:
    """Value and headers of the copy of a command. `epoch` is the epoch of the source topic. Raises PoisonRecord."""
    return resent(record.value, read_command(record, epoch), record.present_headers)

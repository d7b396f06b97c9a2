"""Writes commands, events and dead letters to their topics, with their keys, partitions and headers."""

from shared.contract.encoding import encode
from shared.contract.events import Command, Event, event_key
from shared.contract.headers import Headers, cloud_event_headers
from shared.contract.keys import events_partition
from shared.kafka.producer import Producer
from shared.ports import Appended
from shared.settings import Settings, Topic


class KafkaCommandLog:
    """`CommandLog` on the commands topic. The key is the owner, so that an owner's commands are in one partition."""

    def __init__(self, producer: Producer, settings: Settings, source: str) -> None:
        self._producer = producer
        self._topic = settings.topic(Topic.COMMANDS)
        self._source = source

    async def append(self, command: Command, *, traceparent: str | None = None) -> Appended:
        """See CommandLog.append."""
        return await self._producer.send(
            self._topic,
            encode(command),
            key=command.owner.key.encode(),
            headers=cloud_event_headers(command, self._source, traceparent),
        )


class KafkaEventLog:
    """`EventLog` on the events topic.

    All events of an image are in one partition. The key is the answered command, and Kafka compacts by it.
    """

    def __init__(self, producer: Producer, settings: Settings, source: str) -> None:
        self._producer = producer
        self._topic = settings.topic(Topic.EVENTS)
        self._source = source

    async def publish(self, event: Event, *, traceparent: str | None = None) -> None:
        """See EventLog.publish."""
        partitions = await self._producer.partitions(self._topic)
        await self._producer.send(
            self._topic,
            encode(event),
            key=event_key(event),
            headers=cloud_event_headers(event, self._source, traceparent),
            partition=events_partition(event.image_id, partitions),
        )


class KafkaDeadLetters:
    """`DeadLetters` on the DLQ topic."""

    def __init__(self, producer: Producer, settings: Settings) -> None:
        self._producer = producer
        self._topic = settings.topic(Topic.DLQ)

    async def send(self, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """See DeadLetters.send. A record without key and value gets an empty key: the client writes none without both.

        Such a record stopped its partition: the processor could neither handle nor dead-letter it.
        """
        if key is None and value is None:
            key = b""
        await self._producer.send(self._topic, value, key=key, headers=headers)

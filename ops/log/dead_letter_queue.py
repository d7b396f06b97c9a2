"""The DLQ for operators: its entries, and the markers of entries that were redriven or dropped.

A record cannot be removed from a log. So a settled entry gets a marker in the same partition: a record without a value
that has the offset of the entry in a header. The marker is younger, so retention removes it after the entry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ops.log.reader import read_topic
from ops.log.resending import resent, with_version
from ops.log.summary import summary
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import decode_command
from shared.contract.headers import Headers
from shared.contract.keys import Owner, command_version, tombstone_key
from shared.contract.logged_command import versioned
from shared.errors import NotFound, PoisonRecord
from shared.kafka.producer import Producer
from shared.ports import ObjectStore
from shared.settings import Settings, Topic

SETTLES_HEADER = "dlq-settles"
"""Header of a marker: the offset of the settled entry, which is in the same partition."""
ACTION_HEADER = "dlq-action"
"""Header of a marker: `redriven`, `dropped`, or `skipped` if the image is deleted."""
DROPPED = "dropped"


@dataclass(frozen=True)
class DeadLetter:
    """An entry of the DLQ. `reason` is the error because of which it is here; `content` is its summary."""

    partition: int
    offset: int
    time: datetime
    key: bytes | None
    value: bytes | None
    headers: Headers
    content: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of the entry for operators: `partition:offset`."""
        return f"{self.partition}:{self.offset}"

    def header(self, name: str) -> str | None:
        """Last value of a header. The headers of the DLQ come after those of the record."""
        values = [value for key, value in self.headers if key == name]
        return values[-1].decode(errors="replace") if values else None

    @property
    def reason(self) -> str:
        """The error because of which the record is in the DLQ."""
        return self.header("dlq-error") or "unknown"

    def document(self) -> dict[str, Any]:
        """The fields that a list shows, as a JSON object."""
        return {
            "entry": self.name,
            "time": self.time.isoformat(timespec="seconds"),
            "type": self.content["type"],
            "owner": self.content["owner"],
            "image_id": self.content["image_id"],
            "error": self.reason,
            "attempts": int(self.header("dlq-attempts") or 0),
            "source": f"{self.header('dlq-source-topic')} "
            f"{self.header('dlq-source-partition')}:{self.header('dlq-source-offset')}",
        }


@dataclass(frozen=True)
class Filter:
    """Selects entries of the DLQ. An empty field matches all entries."""

    names: frozenset[str] = frozenset()
    since: datetime | None = None
    error: str | None = None
    owner: Owner | None = None

    def __call__(self, letter: DeadLetter) -> bool:
        """Whether this entry is selected."""
        return (
            (not self.names or letter.name in self.names)
            and (self.since is None or letter.time >= self.since)
            and (self.error is None or self.error.lower() in letter.reason.lower())
            and (self.owner is None or letter.content["owner"] == self.owner.key)
        )


async def unsettled(settings: Settings, chosen: Filter) -> list[DeadLetter]:
    """Open entries: those that were neither redriven nor dropped, oldest first. Raises Unavailable."""
    found: dict[tuple[int, int], DeadLetter] = {}

    def take(records: Sequence[ConsumedRecord]) -> None:
        for record in records:
            if (settled := settles(record)) is not None:
                found.pop((record.partition, settled[0]), None)
                continue
            letter = dead_letter(record)
            if chosen(letter):
                found[(letter.partition, letter.offset)] = letter

    await read_topic(settings, Topic.DLQ, take)
    return sorted(found.values(), key=lambda letter: letter.time)


def settles(record: ConsumedRecord) -> tuple[int, str] | None:
    """Offset of the entry that a marker settles, and the action; None if the record is not a marker."""
    headers = dict(record.present_headers)
    if SETTLES_HEADER not in headers:
        return None
    return int(headers[SETTLES_HEADER]), headers[ACTION_HEADER].decode()


def dead_letter(record: ConsumedRecord) -> DeadLetter:
    """Convert a record of the DLQ to an entry."""
    moment = datetime.fromtimestamp(record.appended_at or 0, UTC)
    return DeadLetter(
        record.partition, record.offset, moment, record.key, record.value, record.present_headers, summary(record)
    )


def redriven(letter: DeadLetter, settings: Settings) -> tuple[bytes | None, Headers]:
    """Value and headers with which an entry is sent to its topic again. For a command see `resent`."""
    headers = [(name, value) for name, value in letter.headers if not name.startswith("dlq-")]
    if letter.header("dlq-source-topic") != settings.topic(Topic.COMMANDS):
        return letter.value, headers
    first = letter.header("dlq-version")
    offset = int(letter.header("dlq-source-offset") or 0)
    version = command_version(settings.epoch, offset) if first is None else int(first)
    try:
        command = decode_command(letter.value)
    except PoisonRecord:
        # This version of the software cannot parse the record. A later one may, and then it needs the version.
        return letter.value, with_version(headers, version)
    return resent(letter.value, versioned(command, version), headers)


async def redrive(letter: DeadLetter, settings: Settings, producer: Producer, store: ObjectStore) -> str:
    """Send a record to its topic again, then settle the entry; returns the action, `redriven` or `skipped`.

    1. A command for a deleted image is skipped (invariant 6). A delete is not skipped, because it may be unfinished.
    2. The record goes to the partition from which it came, so the order of an owner's commands is kept.
    3. The marker is written after the ack. If this process ends in between, the entry can be redriven a second time.
       Both copies have the same version, so the result is the same.

    Raises Unavailable, UnknownOutcome.
    """
    action = "redriven"
    if letter.content["type"] != "image.deleted" and await _is_deleted(letter, store):
        action = "skipped"
    else:
        value, headers = redriven(letter, settings)
        await producer.send(
            letter.header("dlq-source-topic") or settings.topic(Topic.COMMANDS),
            value,
            key=letter.key,
            headers=headers,
            partition=int(letter.header("dlq-source-partition") or 0),
        )
    await settle(letter, settings, producer, action)
    return action


async def settle(letter: DeadLetter, settings: Settings, producer: Producer, action: str) -> None:
    """Write the marker that settles an entry. Raises Unavailable, UnknownOutcome."""
    headers = [(SETTLES_HEADER, str(letter.offset).encode()), (ACTION_HEADER, action.encode())]
    await producer.send(settings.topic(Topic.DLQ), None, key=letter.key, headers=headers, partition=letter.partition)


async def _is_deleted(letter: DeadLetter, store: ObjectStore) -> bool:
    image_id = letter.content["image_id"]
    if not isinstance(image_id, str):
        return False
    try:
        await store.get(tombstone_key(image_id))  # type: ignore[arg-type]
    except NotFound:
        return False
    return True

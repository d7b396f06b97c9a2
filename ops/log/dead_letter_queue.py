"""The DLQ as ops see it: its entries, and markers that say which were redriven or dropped.

A record of a log cannot be taken out. So what is settled gets a marker in the same partition, a record without a value
whose header names the entry; it ages out after the entry that it settles.
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
"""On a marker: the offset, in the marker's own partition, of the entry that is settled."""
ACTION_HEADER = "dlq-action"
"""On a marker: `redriven`, `dropped`, or `skipped` for an image that is deleted for good."""
DROPPED = "dropped"


@dataclass(frozen=True)
class DeadLetter:
    """An entry that is not settled. `source` is the topic it came from, `reason` the error that sent it here."""

    partition: int
    offset: int
    time: datetime
    key: bytes | None
    value: bytes | None
    headers: Headers
    content: Mapping[str, Any]

    @property
    def name(self) -> str:
        """`partition:offset`, by which people name it."""
        return f"{self.partition}:{self.offset}"

    def header(self, name: str) -> str | None:
        """Last value of a header: the DLQ's own follow the record's."""
        values = [value for key, value in self.headers if key == name]
        return values[-1].decode(errors="replace") if values else None

    @property
    def reason(self) -> str:
        """Why it is here."""
        return self.header("dlq-error") or "unknown"

    def document(self) -> dict[str, Any]:
        """What a list shows."""
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
    """Which entries are meant; empty fields match all."""

    names: frozenset[str] = frozenset()
    since: datetime | None = None
    error: str | None = None
    owner: Owner | None = None

    def __call__(self, letter: DeadLetter) -> bool:
        """Whether this entry is meant."""
        return (
            (not self.names or letter.name in self.names)
            and (self.since is None or letter.time >= self.since)
            and (self.error is None or self.error.lower() in letter.reason.lower())
            and (self.owner is None or letter.content["owner"] == self.owner.key)
        )


async def unsettled(settings: Settings, chosen: Filter) -> list[DeadLetter]:
    """Entries that were neither redriven nor dropped, oldest first. Raises Unavailable."""
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
    """Offset of the entry that a marker settles, and the action; None for a record that is no marker."""
    headers = dict(record.present_headers)
    if SETTLES_HEADER not in headers:
        return None
    return int(headers[SETTLES_HEADER]), headers[ACTION_HEADER].decode()


def dead_letter(record: ConsumedRecord) -> DeadLetter:
    """The entry that a record of the DLQ is."""
    moment = datetime.fromtimestamp(record.appended_at or 0, UTC)
    return DeadLetter(
        record.partition, record.offset, moment, record.key, record.value, record.present_headers, summary(record)
    )


def redriven(letter: DeadLetter, settings: Settings) -> tuple[bytes | None, Headers]:
    """Value and headers for the record's second time in its topic; of a command as `resent` says."""
    headers = [(name, value) for name, value in letter.headers if not name.startswith("dlq-")]
    if letter.header("dlq-source-topic") != settings.topic(Topic.COMMANDS):
        return letter.value, headers
    first = letter.header("dlq-version")
    offset = int(letter.header("dlq-source-offset") or 0)
    version = command_version(settings.epoch, offset) if first is None else int(first)
    try:
        command = decode_command(letter.value)
    except PoisonRecord:
        # This version of the software cannot read the record. A later one may, and then it needs the record's version.
        return letter.value, with_version(headers, version)
    return resent(letter.value, versioned(command, version), headers)


async def redrive(letter: DeadLetter, settings: Settings, producer: Producer, store: ObjectStore) -> str:
    """Send the record to its topic once more, then settle the entry; returns what was done.

    1. A command for a deleted image is skipped (invariant 6), but for a delete: it may not have got to its end.
    2. The record goes to the partition it came from: order per owner holds.
    3. The marker follows the ack: after a crash in between the entry is redriven twice, at one version, to one end.

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
    """Mark the entry as done with. Raises Unavailable, UnknownOutcome."""
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

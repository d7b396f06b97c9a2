"""The DLQ for operators: its entries, and the markers of entries that were redriven or dropped.

A record cannot be removed from a log. So a settled entry gets a marker in the same partition: a record without a value
whose key names the entry. The key is the marker's own, so an entry needs no key, and a marker never replaces another
record. The marker is younger, so retention removes it after the entry.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from ops.log.reader import read_topic
from ops.log.resending import REDRIVES_HEADER, resent, with_version, without
from ops.log.summary import summary
from shared.consuming.dead_letters import SOURCE_TOPIC, record_headers
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import decode_command
from shared.contract.headers import Headers, header, number
from shared.contract.keys import MAX_BIGINT, Owner, command_version, tombstone_key
from shared.contract.logged_command import versioned
from shared.errors import NotFound, PoisonRecord
from shared.kafka.producer import Producer
from shared.ports import ObjectStore
from shared.settings import Settings, Topic

T = TypeVar("T")
ACTION_HEADER = "dlq-action"
"""Header of a marker: REDRIVEN, DROPPED, or SKIPPED if the image is deleted."""
REDRIVEN, DROPPED, SKIPPED = "redriven", "dropped", "skipped"
_MARKER_KEY = re.compile(r"dlq-settled:([0-9]{1,10}:[0-9]{1,19})")
_NAME = re.compile(r"[0-9]{1,10}:[0-9]{1,19}")


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
        """First value of a header, or None."""
        return header(self.headers, name)

    def number(self, name: str) -> int | None:
        """The number in a header; None where there is none, or none that Kafka or a version can have."""
        text = self.header(name)
        return None if text is None else number(text.encode())

    @property
    def redrives(self) -> str | None:
        """Name of the entry whose redrive has failed and led to this one, or None."""
        name = self.header(REDRIVES_HEADER)
        return name if name is not None and _NAME.fullmatch(name) else None

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
            "attempts": self.number("dlq-attempts") or 0,
            "source": f"{self.header(SOURCE_TOPIC)} "
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


class Entries(Generic[T]):
    """The open entries, from the records of the DLQ in the order of each partition.

    1. A marker settles the entry that it names.
    2. An entry whose record was redriven, and failed again, is settled by its new entry.
    3. A redrive that was interrupted and repeated may have sent its record twice. Of the new entries that stand for one
       old entry only the last is open.
    """

    def __init__(self, note: Callable[[DeadLetter], T | None], settled: Callable[[T, str], object]) -> None:
        """`note` returns what to keep of an entry, or None. `settled` receives that and the action that settled it."""
        self.open: dict[str, T] = {}
        self._note = note
        self._on_settled = settled
        self._settled: set[str] = set()
        self._last: dict[str, tuple[datetime, str]] = {}
        """Time and name of the last entry that stands for an old one, by the old one's name."""

    def add(self, records: Iterable[ConsumedRecord]) -> None:
        """Take the next records."""
        for record in records:
            marker = read_marker(record)
            if marker is not None:
                self._settle(*marker)
            else:
                self._add(dead_letter(record))

    def _add(self, letter: DeadLetter) -> None:
        kept = self._note(letter)
        if kept is not None and letter.name not in self._settled:
            self.open[letter.name] = kept
        if letter.redrives is None or letter.redrives == letter.name:
            return
        self._settle(letter.redrives, REDRIVEN)
        this = letter.time, letter.name
        earlier, last = sorted((self._last.get(letter.redrives, this), this))
        if earlier != last:
            self._settle(earlier[1], REDRIVEN)
        self._last[letter.redrives] = last

    def _settle(self, name: str, action: str) -> None:
        self._settled.add(name)
        if name in self.open:
            self._on_settled(self.open.pop(name), action)


async def unsettled(settings: Settings, chosen: Filter) -> list[DeadLetter]:
    """Open entries: those that were neither redriven nor dropped, oldest first. Raises Unavailable."""
    entries = Entries(lambda letter: letter if chosen(letter) else None, lambda _letter, _action: None)
    await read_topic(settings, Topic.DLQ, entries.add)
    return sorted(entries.open.values(), key=lambda letter: letter.time)


def read_marker(record: ConsumedRecord) -> tuple[str, str] | None:
    """Name of the entry that a marker settles, and the action; None if the record is not a marker.

    A dead letter can have the key of a marker and no value, but it has a source.
    """
    if record.value is not None or record.key is None or header(record.headers, SOURCE_TOPIC) is not None:
        return None
    match = _MARKER_KEY.fullmatch(record.key.decode(errors="replace"))
    return (match[1], header(record.headers, ACTION_HEADER) or "") if match else None


def marker_key(letter: DeadLetter) -> bytes:
    """Key of the record that settles an entry."""
    return f"dlq-settled:{letter.name}".encode()


def dead_letter(record: ConsumedRecord) -> DeadLetter:
    """Convert a record of the DLQ to an entry."""
    moment = datetime.fromtimestamp(record.appended_at or 0, UTC)
    return DeadLetter(
        record.partition, record.offset, moment, record.key, record.value, record.present_headers, summary(record)
    )


def redriven(letter: DeadLetter, settings: Settings) -> tuple[bytes | None, Headers]:
    """Value and headers with which an entry is sent to its topic again. For a command see `resent`.

    Raises PoisonRecord if the version of a command is not in the headers of the entry.
    """
    value, headers = letter.value, record_headers(letter.headers)
    if letter.header(SOURCE_TOPIC) == settings.topic(Topic.COMMANDS):
        value, headers = _redriven_command(letter, headers, settings.epoch)
    return value, [*without(headers, REDRIVES_HEADER), (REDRIVES_HEADER, letter.name.encode())]


def _redriven_command(letter: DeadLetter, headers: Headers, epoch: int) -> tuple[bytes | None, Headers]:
    version, offset = letter.number("dlq-version"), letter.number("dlq-source-offset")
    if version is None and offset is not None:
        version = command_version(epoch, offset)
    if version is None or version > MAX_BIGINT:
        raise PoisonRecord("its headers name no version and no offset")
    try:
        command = decode_command(letter.value)
    except PoisonRecord:
        # This version of the software cannot parse the record. A later one may, and then it needs the version.
        return letter.value, with_version(headers, version)
    return resent(letter.value, versioned(command, version), headers)


async def redrive(letter: DeadLetter, settings: Settings, producer: Producer, store: ObjectStore) -> str:
    """Send a record to its topic again, then settle the entry; returns the action, `redriven` or `skipped`.

    1. A command for a deleted image is skipped (invariant 6). A delete is not skipped, because it may be unfinished.
    2. The record goes to the partition from which it came, so the order of an owner's commands is kept. A header of the
       record names the entry.
    3. The marker is written after the ack. In the other order a crash in between would lose the record.

    After a crash between 2 and 3 the entry is still open, and the record is in its topic. A repeated redrive sends it
    once more, with the same result (see `resent`). If the record fails again, its new entry names this one and settles
    it: there is one open entry, however often the redrive was repeated (see `Entries`).

    Raises Unavailable and UnknownOutcome. Raises PoisonRecord if the headers of the entry name no place in a topic of
    this deployment, and RecordTooLarge if the record is too large for its topic. Such an entry stays open.
    """
    action = REDRIVEN
    if letter.content["type"] != "image.deleted" and await _is_deleted(letter, store):
        action = SKIPPED
    else:
        topic, partition = await _source(letter, settings, producer)
        value, headers = redriven(letter, settings)
        if value is None and letter.key is None:
            raise PoisonRecord("it has neither a key nor a value")
        await producer.send(topic, value, key=letter.key, headers=headers, partition=partition)
    await settle(letter, settings, producer, action)
    return action


async def _source(letter: DeadLetter, settings: Settings, producer: Producer) -> tuple[str, int]:
    """Topic and partition that the record came from. Raises PoisonRecord for any that is not of this deployment."""
    topic, partition = letter.header(SOURCE_TOPIC), letter.number("dlq-source-partition")
    if topic not in (settings.topic(Topic.COMMANDS), settings.topic(Topic.EVENTS)):
        raise PoisonRecord("its headers name no topic of this deployment")
    if partition is None or partition >= await producer.partitions(topic):
        raise PoisonRecord(f"its headers name no partition of {topic}")
    return topic, partition


async def settle(letter: DeadLetter, settings: Settings, producer: Producer, action: str) -> None:
    """Write the marker that settles an entry. Raises Unavailable, UnknownOutcome."""
    headers = [(ACTION_HEADER, action.encode())]
    await producer.send(
        settings.topic(Topic.DLQ), None, key=marker_key(letter), headers=headers, partition=letter.partition
    )


async def _is_deleted(letter: DeadLetter, store: ObjectStore) -> bool:
    image_id = letter.content["image_id"]
    if not isinstance(image_id, str):
        return False
    try:
        await store.get(tombstone_key(image_id))  # type: ignore[arg-type]
    except NotFound:
        return False
    return True

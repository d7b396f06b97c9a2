"""Records of Kafka as commands, events, manifests and dead letters, on any bytes.

An input has lines `name: value` (headers; a line without a colon is a header without a value), an empty line, and the
value. The first byte of the input selects the topic and whether the record has a key and a value.

1. Only PoisonRecord leaves the decoders. Its text, which goes to logs and headers, is one line of at most MAX_ERROR
   characters.
2. What a decoder accepts is the same after it is encoded and decoded again.
3. What the contract accepts, Cassandra can store (invariant 10).
4. Every record becomes a dead letter, and every dead letter is listed and sent again. The headers that the record had
   in its topic come back.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from random import Random

from indexer.handler import parse
from ops.log.dead_letter_queue import DeadLetter, Entries, dead_letter, read_marker, redriven
from ops.log.summary import summary
from shared.consuming.dead_letters import dead_letter_headers, record_headers
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import decode_command, decode_event, decode_manifest, encode
from shared.contract.events import Manifest, Model, Ready
from shared.contract.logged_command import read_command
from shared.errors import PoisonRecord
from shared.read_model.tables import command_writes, event_writes
from shared.settings import Settings, Topic
from tests.fuzz.json_mutation import mutated_json
from tests.support.arbitrary import EXAMPLES
from tests.support.storable import storable

SETTINGS = Settings(_env_file=None)
SHARDS = SETTINGS.day_shards
EPOCH = 1
TOPICS = {"c": Topic.COMMANDS, "e": Topic.EVENTS, "d": Topic.DLQ}
MAX_ERROR = 4000
"""Characters of a PoisonRecord's text: three errors of pydantic, each with the place of a field."""


def check(data: bytes) -> None:
    """Raise if the property does not hold for this record."""
    record = _record(data)
    error = _check_decoders(record)
    json.dumps(summary(record))
    if record.topic is Topic.DLQ:
        _check_dead_letter(record)
    else:
        _check_dead_lettering(record, error)


def _record(data: bytes) -> ConsumedRecord:
    head, _, value = data.partition(b"\n\n")
    flags, *lines = head.split(b"\n")
    topic = TOPICS.get(flags[:1].decode("latin-1"), Topic.COMMANDS)
    headers: list[tuple[str, bytes | None]] = []
    for line in lines:
        name, colon, content = line.partition(b": ")
        headers.append((name.decode(errors="replace"), content if colon else None))
    key = None if b"k" in flags else b"user:1"
    return ConsumedRecord(topic, 3, 17, key, None if b"v" in flags else value, headers, 1.0)


def _check_decoders(record: ConsumedRecord) -> Exception:
    """Check the decoders of all topics; returns the error of the record's own, or another where it is valid."""
    error: Exception = ValueError("unexpected")
    try:
        logged = read_command(record, EPOCH)
    except PoisonRecord as poison:
        error = poison
    else:
        assert decode_command(encode(logged.command)) == logged.command
        assert 0 <= logged.version < 2**63
        storable(command_writes(logged, SHARDS))
    try:
        event = decode_event(record.value)
    except PoisonRecord as poison:
        error = poison
    else:
        assert decode_event(encode(event)) == event
        storable(event_writes(event, SHARDS))
        if isinstance(event, Ready):
            _check_manifest(Manifest(render=event.current.render, event=event))
    with suppress(PoisonRecord):
        _check_manifest(decode_manifest(record.value or b""))
    parse(record, EPOCH)
    assert len(str(error)) <= MAX_ERROR, len(str(error))
    assert str(error).isprintable(), error
    return error


def _check_manifest(manifest: Model) -> None:
    assert decode_manifest(encode(manifest)) == manifest


def _check_dead_lettering(record: ConsumedRecord, error: Exception) -> None:
    headers = dead_letter_headers(
        record.headers, topic=SETTINGS.topic(record.topic), partition=record.partition, offset=record.offset,
        version=None, error=error, attempts=1,
    )  # fmt: skip
    assert record_headers(headers) == record.present_headers
    entry = ConsumedRecord(Topic.DLQ, 0, 5, record.key, record.value, headers, 1.0)
    assert read_marker(entry) is None
    letter = dead_letter(entry)
    assert (letter.number("dlq-source-partition"), letter.number("dlq-source-offset")) == (3, 17)
    _check_redrive(letter)


def _check_dead_letter(record: ConsumedRecord) -> None:
    """A record that anything may have written to the DLQ."""
    entries: Entries[DeadLetter] = Entries(lambda letter: letter, lambda _letter, _action: None)
    entries.add([record, record])
    for letter in entries.open.values():
        _check_redrive(letter)


def _check_redrive(letter: DeadLetter) -> None:
    json.dumps(letter.document())
    with suppress(PoisonRecord):
        _, headers = redriven(letter, SETTINGS)
        assert all(isinstance(name, str) and isinstance(content, bytes) for name, content in headers)


def mutate(data: bytes, chance: Random) -> bytes:
    """Change a value of the JSON, or a header."""
    head, _, value = data.partition(b"\n\n")
    if chance.random() < 0.8:
        value = mutated_json(value, chance)
    else:
        names = ("imagepipe-version", "imagepipe-redrives", "dlq-version", "dlq-source-topic", "dlq-source-offset",
                 "dlq-source-partition", "dlq-kept:dlq-error", "dlq-error", "traceparent")  # fmt: skip
        contents = ("1", "-1", "3:17", "0:5", "9223372036854775808", "9" * 5000, SETTINGS.topic(Topic.COMMANDS), "")
        head += f"\n{chance.choice(names)}: {chance.choice(contents)}".encode()
    return head + b"\n\n" + value


def seeds() -> Iterator[bytes]:
    """The example record of each type, also as a dead letter and as a manifest."""
    for example in EXAMPLES:
        value = json.dumps(example["value"], separators=(",", ":")).encode()
        headers = "".join(f"\n{name}: {content}" for name, content in example["headers"].items())
        topic = "e" if example["topic"] == "images.events" else "c"
        yield f"{topic}{headers}\nimagepipe-version: 4503599627370496\n\n".encode() + value
        source = SETTINGS.topic(TOPICS[topic])
        dead = f"d\ndlq-source-topic: {source}\ndlq-source-partition: 0\ndlq-source-offset: 7\ndlq-version: 9"
        yield f"{dead}\ndlq-kept:dlq-error: own\nimagepipe-redrives: 0:3\n\n".encode() + value
        if example["value"]["type"] in ("image.ready", "image.failed"):
            manifest = {"schema_version": 1, "render": "0123456789abcdef", "event": example["value"]}
            yield b"c\n\n" + json.dumps(manifest, separators=(",", ":")).encode()
    yield b"cv\n\n"
    yield b"dkv\ndlq-action: dropped\n\n"

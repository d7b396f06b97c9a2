"""Writes many rows of ready images to the index, faster than the log can make them."""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from uuid import UUID

from shared.cassandra.column_groups import Texts
from shared.cassandra.cql import conditions
from shared.cassandra.index import CassandraIndex
from shared.concurrency import for_each
from shared.contract.events import Current, Original, Variant
from shared.contract.keys import Owner, day_of, new_id, original_key, variant_key
from shared.contract.ladder import Ladder
from shared.errors import Unavailable
from shared.read_model.documents import media_url
from shared.read_model.tables import BY_DAY, BY_OWNER, day_insert, existence_columns, image_key

OWNER = Owner(type="user", id="1")
WRITES_IN_FLIGHT = 16
WRITE_TRIES = 10
"""A small engine sometimes times out while it compacts; every write here may be repeated."""
INSERTS_AT_ONCE = 12
"""Rows of one batch: with 2 to 3 kB each well below the 50 kB that Cassandra refuses."""
DELETIONS_AT_ONCE = 100
VERSION = 1 << 52
BASE = "https://images.example.org"


def id_at(moment: datetime) -> UUID:
    """A UUIDv7 of this moment."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | random.getrandbits(62))


def current(image_id: UUID) -> Current:
    """What a ready image's row holds."""
    revision = new_id()
    path = original_key(image_id, revision, "image/jpeg")
    original = Original(
        file_name="dunes.jpg", content_type="image/jpeg", size=482_133, width=1600, height=1067, sha256="9f" * 32,
        path=path, url=media_url(BASE, path),
    )  # fmt: skip
    digest = Ladder().digest

    def variant(name: str) -> Variant:
        key = variant_key(image_id, revision, digest, name)
        return Variant(
            name=name, path=key, url=media_url(BASE, key), content_type="image/webp", width=640, height=427,
            size=31_000, sha256="ab" * 32,
        )  # fmt: skip

    return Current(
        revision=revision, revision_version=VERSION, render=digest, original=original, dominant_color="#7f6f5f",
        thumbhash="1QcSHQRnh493V4dIh4eXh1h4kJUI", variants=tuple(variant(name) for name in Ladder().names),
    )  # fmt: skip


OwnerOf = Callable[[int], Owner]
"""The owner of the image with this number."""


def columns_of(table: str, image_id: UUID, owner: Owner, shards: int, shown: Current) -> dict[str, object]:
    """All columns of a ready image in a table."""
    columns = existence_columns(image_id, owner, VERSION) | {"current": shown}
    return columns | image_key(table, image_id, owner, shards)


async def insert(
    index: CassandraIndex, ids: Sequence[UUID], tables: Sequence[str], shards: int, owner_of: OwnerOf = lambda _: OWNER
) -> None:
    """Write ready images. All name the same files, because making files for each would take longer than the writes."""
    shown, texts = current(ids[0]), Texts()
    for table in tables:
        rows = (texts.columns(columns_of(table, ids[n], owner_of(n), shards, shown)) for n in range(len(ids)))
        names = list(texts.columns(columns_of(table, ids[0], OWNER, shards, shown)))
        statement = (
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
            f" USING TIMESTAMP {VERSION};"
        )
        await write(index, statement, ([row[name] for name in names] for row in rows), INSERTS_AT_ONCE)
    days = {day_of(image_id) for image_id in ids}
    await index.apply([day_insert(day, VERSION) for day in days])


async def delete(index: CassandraIndex, ids: Iterable[UUID], shards: int) -> None:
    """Write and delete images, which leaves Cassandra's tombstones."""
    ids = list(ids)
    for table in (BY_DAY, BY_OWNER):
        keys = [image_key(table, image_id, OWNER, shards) for image_id in ids]
        statement = f"DELETE FROM {table} USING TIMESTAMP {VERSION} WHERE {conditions(keys[0])};"
        await write(index, statement, (list(key.values()) for key in keys), DELETIONS_AT_ONCE)


async def _try(index: CassandraIndex, statement: str, values: Sequence[object]) -> None:
    for left in reversed(range(WRITE_TRIES)):
        try:
            await index.execute(statement, values)
        except Unavailable:
            if not left:
                raise
            await asyncio.sleep(1)
        else:
            return


async def write(index: CassandraIndex, statement: str, rows: Iterable[Sequence[object]], batch_size: int) -> None:
    """Run the statement with each row's values, in batches: single writes would take the driver minutes more."""
    source = iter(rows)
    batches = iter(lambda: list(itertools.islice(source, batch_size)), [])

    async def run_batch(batch: Sequence[Sequence[object]]) -> None:
        values = list(itertools.chain.from_iterable(batch))
        await _try(index, f"BEGIN UNLOGGED BATCH {statement * len(batch)} APPLY BATCH", values)

    await for_each(batches, run_batch, WRITES_IN_FLIGHT)

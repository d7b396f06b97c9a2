"""How long pages of lists take on a running Cassandra: `python -m bench.lists [--images 200000]`.

The engine is the one that the environment names (CASSANDRA_CONTACT_POINTS, CASSANDRA_PORT; `ROOT/env` of a local stack
has them). Rows are written through the index adapter into keyspaces of this run, which are dropped at the end.
Times are of `Lists.page` with no page cached: queries, merging, JSON. `cold` is the first time, `warm` the median of
the next five, with marks that stay exact for this process's own writes.
"""

import argparse
import asyncio
import random
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

from rich.console import Console
from rich.table import Table

from bench import stack
from bench.rows import BASE, OWNER, delete, id_at, insert
from gateway.http.json_document import JsonDocument
from gateway.reading.lists import GAP_MEMORY, ListQuery, Lists
from gateway.services.changes import Changes
from shared.cassandra.index import CassandraIndex
from shared.cassandra.schema import apply_schema
from shared.cassandra.session import connect
from shared.read_model.tables import BY_DAY, BY_OWNER
from shared.settings import Settings


def spread(images: int, days: int) -> list[UUID]:
    """Ids of so many images at random over the last days (whole UTC days, not today's), newest first."""
    end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    seconds = days * 86_400
    return sorted((id_at(end - timedelta(seconds=random.uniform(0.01, seconds))) for _ in range(images)), reverse=True)


@asynccontextmanager
async def keyspace(settings: Settings) -> AsyncIterator[tuple[CassandraIndex, Settings]]:
    """An index in a keyspace of its own, dropped at the end."""
    own = settings.model_copy(
        update={
            "cassandra_keyspace": f"bench_lists_{secrets.token_hex(4)}",
            # A slow page is to be measured, not to end the run.
            "cassandra_timeout": timedelta(minutes=1),
        }
    )
    await asyncio.to_thread(apply_schema, own)
    index = CassandraIndex(gap_memory=GAP_MEMORY)
    await index.connect(own, own.cassandra_keyspace)
    try:
        yield index, own
    finally:
        await index.close()
        session = await asyncio.to_thread(connect, own)
        await asyncio.to_thread(session.execute, f"DROP KEYSPACE {own.cassandra_keyspace}", timeout=60)
        session.cluster.shutdown()


class Measures:
    """Rows of the table that is printed at the end."""

    def __init__(self, index: CassandraIndex, settings: Settings, table: Table, scenario: str) -> None:
        self._table = table
        self._scenario = scenario
        self.lists = Lists(index, Changes(), shards=settings.day_shards, ttl=timedelta(0), base_url=BASE)

    async def page(self, what: str, query: ListQuery) -> JsonDocument:
        """Time a page, cold and warm; returns it."""
        times = []
        for _ in range(6):
            started = time.perf_counter()
            page = await self.lists.page(query)
            times.append(1000 * (time.perf_counter() - started))
        cells = [f"{times[0]:.0f}", f"{statistics.median(times[1:]):.0f}", str(page.body.count(b'"image_id"'))]
        self._table.add_row(what, *cells, self._scenario)
        # All scenarios take minutes, so each figure is shown as soon as it is known.
        print(f"{what}: {cells[0]} ms, then {cells[1]} ms", flush=True)
        return page


async def live(settings: Settings, table: Table, images: int, days: int) -> None:
    """Offsets and cursors over many live images."""
    async with keyspace(settings) as (index, own):
        ids = spread(images, days)
        await insert(index, ids, [BY_DAY, *([BY_OWNER] if days == 1 else [])], own.day_shards)
        measures = Measures(index, own, table, f"{images:,} images over {days} day{'s' * (days > 1)}")
        half = images // 2
        for offset in (0, 1000, half):
            page = await measures.page(f"offset {offset:,}", ListQuery(None, 50, offset))
            assert str(ids[offset]).encode() in page.body.split(b"}", 1)[0]
        await measures.page(f"offset {half:,}, limit 500", ListQuery(None, 500, half))
        for depth in (1000, half, images - 100):
            await measures.page(f"cursor at {depth:,}", ListQuery(None, 50, after=ids[depth]))
        if days == 1:
            for offset in (0, half):
                await measures.page(f"one owner, offset {offset:,}", ListQuery(OWNER, 50, offset))


async def deleted(settings: Settings, table: Table, images: int) -> None:
    """The newest images of yesterday are all deleted, a few older ones live."""
    async with keyspace(settings) as (index, own):
        ids = spread(images + 1000, 1)
        await delete(index, ids[:images], own.day_shards)
        await insert(index, ids[images:], [BY_DAY, BY_OWNER], own.day_shards)
        measures = Measures(index, own, table, f"{images:,} deleted before 1,000")
        await measures.page("first page", ListQuery(None, 50))
        await measures.page("one owner, first page", ListQuery(OWNER, 50))
        await measures.page("one owner, cursor", ListQuery(OWNER, 50, after=ids[images + 100]))


async def sparse(settings: Settings, table: Table, days: int) -> None:
    """One image a day."""
    async with keyspace(settings) as (index, own):
        end = datetime.now(UTC)
        await insert(index, [id_at(end - timedelta(days=day)) for day in range(days)], [BY_DAY], own.day_shards)
        measures = Measures(index, own, table, f"one image a day, {days:,} days")
        await measures.page("first page", ListQuery(None, 50))
        await measures.page("limit 500", ListQuery(None, 500))
        await measures.page("limit 500, offset 400", ListQuery(None, 500, 400))


async def run(images: int) -> None:
    """All scenarios, then the table."""
    table = Table("page", "cold ms", "warm ms", "images")
    table.add_column("scenario", no_wrap=True)
    settings = Settings()
    stack.require_engines(settings, "cassandra")
    console = Console()
    scenarios: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        (f"{images:,} images over 30 days", lambda: live(settings, table, images, 30)),
        (f"{images:,} images on one day", lambda: live(settings, table, images, 1)),
        ("deleted images", lambda: deleted(settings, table, images // 2 + 5000)),
        ("one image a day", lambda: sparse(settings, table, 1000)),
    ]
    started = time.perf_counter()
    for what, scenario in scenarios:
        console.print(f"{time.perf_counter() - started:5.0f} s  {what}", style="dim")
        await scenario()
    console.print(table)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Time pages of lists on a running Cassandra.")
    parser.add_argument("--images", type=int, default=200_000, help="live images in the large scenarios")
    asyncio.run(run(parser.parse_args().images))


if __name__ == "__main__":
    stack.run(main)

"""Figures of growth: whether a long backlog, many owners or many images of one owner make anything slower.

The floor of each figure is the same measure with little data, so a ratio of 1 means that nothing depends on the size.
"""

import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median

from bench.deployment import Answers, Deployment, answers, deployment
from bench.figures import Aim, Figure, Rounds
from bench.load import drive, multipart
from bench.photos import jpeg_of_size, tiny
from bench.records import SOURCE, producing, upload
from bench.rows import OWNER, id_at, insert
from bench.suites.gateway import FRESH, UPLOAD_BYTES
from shared.cassandra.index import CassandraIndex
from shared.concurrency import for_each
from shared.contract.events import Uploaded
from shared.contract.keys import Owner
from shared.kafka.writers import KafkaCommandLog
from shared.observability.metrics import Service
from shared.read_model.tables import BY_OWNER
from shared.s3.store import S3Store
from tests.support.engines.stack import Stack

SMALL, LARGE = 50, 100_000
"""Images of an owner."""
OWNERS = 100_000
MANY = Owner(type="user", id="many")
BACKLOG = 15
"""Commands of the smallest backlog. It is measured this often in a round, because it takes a fraction of a second:"""
REPETITIONS = 5
AT_ONCE = 50


async def measure(stack: Stack, rounds: Rounds) -> None:
    """Measure all figures of growth."""
    with deployment(stack, Service.PROCESSOR) as running:
        await measure_backlog(running, rounds)
    services = (Service.GATEWAY, Service.INDEXER)
    with deployment(stack, *services) as small, deployment(stack, *services) as large:
        await insert_images(small, SMALL)
        await insert_images(large, SMALL)
        await insert_images(large, LARGE, MANY)
        await insert_owners(large)
        await measure_pages(small, large, rounds)
        await measure_uploads(small, large, rounds)


async def insert_images(running: Deployment, count: int, owner: Owner = OWNER) -> None:
    """Write the rows of an owner's images."""
    await _insert(running, count, lambda _: owner)


async def insert_owners(running: Deployment) -> None:
    """Write one image for each of many owners."""
    await _insert(running, OWNERS, lambda number: Owner(type="user", id=f"one-{number}"))


async def _insert(running: Deployment, count: int, owner_of: Callable[[int], Owner]) -> None:
    index = await CassandraIndex.open(running.settings)
    try:
        ids = [id_at(datetime.now(UTC)) for _ in range(count)]
        await insert(index, ids, [BY_OWNER], running.settings.day_shards, owner_of)
    finally:
        await index.close()


async def measure_pages(small: Deployment, large: Deployment, rounds: Rounds) -> None:
    """The first page of an owner's list, uncached, with one client."""

    async def page(running: Deployment, owner: Owner) -> float:
        url = f"{running.base_url}/images?limit={SMALL}&user_id={owner.id}"
        return (await drive(url, clients=1, seconds=rounds.seconds, headers=FRESH)).p50_ms

    alone, among_many, of_many = await rounds.in_turn(
        lambda: page(small, OWNER), lambda: page(large, OWNER), lambda: page(large, MANY)
    )
    floor, aim = f"1 owner of {SMALL} images", Aim("at most", 1.5)
    rounds.report(Figure(f"first page, 1 of {OWNERS:,} owners: p50", "ms", floor, among_many, alone, aim))
    rounds.report(Figure(f"first page, owner of {LARGE:,} images: p50", "ms", floor, of_many, alone, aim))


async def measure_uploads(small: Deployment, large: Deployment, rounds: Rounds) -> None:
    """POST /images with one client, to an owner with few images and to one with many."""
    body, content_type = multipart(jpeg_of_size(UPLOAD_BYTES))
    form = small.directory / "form"
    form.write_bytes(body)

    async def post(running: Deployment, owner: Owner) -> float:
        found = await drive(
            f"{running.base_url}/images?user_id={owner.id}", clients=1, seconds=rounds.seconds, method="POST",
            headers={"Content-Type": content_type}, body=form,
        )  # fmt: skip
        return found.p50_ms

    await rounds.compare(
        f"POST, owner of {LARGE:,} images: p50", "ms", (f"owner of {SMALL} images", lambda: post(small, OWNER)),
        lambda: post(large, MANY), Aim("at most", 1.1),
    )  # fmt: skip


async def measure_backlog(running: Deployment, rounds: Rounds) -> None:
    """Tiny images per second through the processor, with backlogs of three lengths."""
    store = S3Store.from_settings(running.settings)
    async with answers(running.settings) as found:

        async def drain(count: int, times: int) -> float:
            return median([await drain_rate(running, store, found, count) for _ in range(times)])

        once, ten, hundred = await rounds.in_turn(
            lambda: drain(BACKLOG, REPETITIONS), lambda: drain(10 * BACKLOG, 1), lambda: drain(100 * BACKLOG, 1),
            warm_up=False,
        )  # fmt: skip
    await store.close()
    floor, aim = f"backlog of {BACKLOG}", Aim("at least", 0.9)
    for factor, rates in ((10, ten), (100, hundred)):
        rounds.report(Figure(f"processor, backlog of {factor * BACKLOG:,}", "images/s", floor, rates, once, aim))


async def drain_rate(running: Deployment, store: S3Store, found: Answers, count: int) -> float:
    """Images per second from the append of the first of so many commands to the last answer.

    From the first answer on would be too short: a small backlog is in progress all at once then.
    """
    data = tiny(0)
    commands = [tiny_upload(running, number, data) for number in range(count)]
    await for_each(commands, lambda each: store.put(each.original.path, data, "image/jpeg"), AT_ONCE)
    started = time.time()
    async with producing(running.settings) as producer:
        log = KafkaCommandLog(producer, running.settings, SOURCE)
        await for_each(commands, log.append, AT_ONCE)
    ids = {str(command.image_id) for command in commands}
    await found.wait(ids)
    return count / (max(found.times[image_id] for image_id in ids) - started)


def tiny_upload(running: Deployment, number: int, data: bytes) -> Uploaded:
    """The command of an upload of these bytes."""
    command = upload(number, running.settings)
    file = {"size": len(data), "width": 32, "height": 24, "sha256": hashlib.sha256(data).hexdigest()}
    return command.model_copy(update={"original": command.original.model_copy(update=file)})

"""Figures of the gateway: lists, documents, media and writes, driven by wrk. No processor runs beside them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from statistics import median
from typing import Final

import httpx

from bench.deployment import Deployment, deployment
from bench.figures import Aim, Figure, Measure, Rounds
from bench.floors.driver import BareDriver, RecordingIndex, Statements
from bench.floors.framework import ETAG, bare_framework
from bench.floors.writes import BareWrites, bare_writes
from bench.load import Request, drive
from bench.photos import jpeg_of_size
from bench.records import answer, logged, upload
from bench.write_costs import CLIENT, Cost, Method, StoredImage, Writes, bare_cost, stored_images
from gateway.reading.image_rows import status_document
from gateway.reading.lists import ListQuery, Lists
from gateway.services.changes import Changes
from shared.cassandra.index import CassandraIndex
from shared.cassandra.session import connected
from shared.concurrency import for_each
from shared.contract.events import Ready
from shared.observability.metrics import Service
from shared.read_model.tables import event_writes
from shared.s3.store import S3Store
from tests.support.engines.stack import Stack

UPLOAD_BYTES = 60_000
MEDIA_BYTES = 45_000
IMAGES = 200
PAGE = 50
CLIENTS = 8
WRITE_CLIENTS = 16
UPDATES = 200
"""Requests of a run of replacements or of deletions. Each has an image of its own."""
ROWS_AT_ONCE = 16
FRESH = {"Cache-Control": "no-cache"}
FRAMEWORK, DRIVER = "bare FastAPI", "driver alone"
BARE_UPLOAD, BARE_DELETION = "boto3 put, then acked record", "acked record"
HALF = Aim("at least", 0.5)
POST: Final = "POST"
PUT: Final = "PUT"
DELETE: Final = "DELETE"
TITLES: Mapping[Method, str] = {POST: "POST of 60 KB", PUT: "PUT of 60 KB", DELETE: "DELETE"}
P50_AIMS: Mapping[Method, Aim | None] = {POST: Aim("at most", 2.0), PUT: None, DELETE: None}
CPU_AIMS: Mapping[Method, Aim | None] = {POST: Aim("at most", 16, "value"), PUT: None, DELETE: None}


async def measure(stack: Stack, rounds: Rounds) -> None:
    """Measure all figures of the gateway."""
    with deployment(stack, Service.GATEWAY, Service.INDEXER) as running:
        images = await store_images(running)
        for page in await pages(running, images[0]):
            await measure_page(running, page, rounds)
        await measure_media(running, images[0], rounds)
        await measure_writes(running, rounds)


async def store_images(running: Deployment) -> list[Ready]:
    """Write the rows of ready images, and one variant of the first to the bucket."""
    settings = running.settings
    images = [answer(logged(upload(number, settings), number, settings), settings) for number in range(IMAGES)]
    index, store = await CassandraIndex.open(settings), S3Store.from_settings(settings)
    try:
        await for_each(images, lambda event: index.apply(event_writes(event, settings.day_shards)), ROWS_AT_ONCE)
        variant = images[0].current.variants[0]
        await store.put(variant.path, bytes(MEDIA_BYTES), variant.content_type)
    finally:
        await index.close()
        await store.close()
    return images


@dataclass(frozen=True)
class Page:
    """A GET of the gateway: its response, and the statements that the gateway sends if nothing is cached."""

    name: str
    path: str
    body: bytes
    statements: Statements


async def pages(running: Deployment, image: Ready) -> tuple[Page, Page]:
    """The list of the newest images, and the status document of one."""
    settings, index = running.settings, RecordingIndex()
    await index.connect(settings)
    try:
        lists = Lists(index, Changes(), shards=settings.day_shards, ttl=timedelta(0), base_url=running.base_url)
        found = await lists.page(ListQuery(None, PAGE), fresh=True)
        list_statements = index.take()
        row = await index.image(image.image_id)
        image_statements = index.take()
    finally:
        await index.close()
    assert row is not None
    body = status_document(row, running.base_url).body
    return (
        Page(f"list of {PAGE}", f"/images?limit={PAGE}", found.body, list_statements),
        Page("status document", f"/images/{image.image_id}/metadata", body, image_statements),
    )


async def measure_page(running: Deployment, page: Page, rounds: Rounds) -> None:
    """A page from the cache, as 304, and read from Cassandra."""
    url = running.base_url + page.path
    body_file = running.directory / "body"
    body_file.write_bytes(page.body)
    etag = get(url).headers["ETag"]
    with bare_framework(running.settings, body_file, running.directory / "framework.log") as floor:
        bare = (FRAMEWORK, rate(f"{floor}/body", rounds))
        await rounds.compare(f"{page.name}, cached", "requests/s", bare, rate(url, rounds), HALF)
        bare = (FRAMEWORK, rate(f"{floor}/body", rounds, {"If-None-Match": ETAG}))
        unchanged = rate(url, rounds, {"If-None-Match": etag})
        await rounds.compare(f"{page.name}, unchanged (304)", "requests/s", bare, unchanged, HALF)
    with connected(running.settings, running.settings.cassandra_keyspace) as session:
        driver = BareDriver(session)

        async def driver_alone() -> float:
            return 1000 / await driver.reads(page.statements, CLIENTS, rounds.seconds)

        async def uncached() -> float:
            return 1000 / (await drive(url, clients=CLIENTS, seconds=rounds.seconds, headers=FRESH)).rate

        aim = Aim("at most", 2.0)
        await rounds.compare(f"{page.name}, uncached", "ms each", (DRIVER, driver_alone), uncached, aim)


def get(url: str) -> httpx.Response:
    """The response to one GET. Raises httpx.HTTPStatusError."""
    return httpx.get(url, trust_env=False).raise_for_status()


def rate(url: str, rounds: Rounds, headers: dict[str, str] | None = None) -> Measure:
    """Measures the requests per second of this URL."""

    async def measured() -> float:
        return (await drive(url, clients=CLIENTS, seconds=rounds.seconds, headers=headers)).rate

    return measured


async def measure_media(running: Deployment, image: Ready, rounds: Rounds) -> None:
    """An object of the bucket through the gateway."""
    path = image.current.variants[0].path
    nothing = running.directory / "nothing"
    nothing.touch()
    with bare_framework(running.settings, nothing, running.directory / "framework.log") as floor:
        urls = (f"{floor}/objects/{path}", f"{running.base_url}/media/{path}")
        for url in urls:
            assert len(get(url).content) == MEDIA_BYTES
        streamed, through_gateway = (f"{FRAMEWORK} streaming from S3", rate(urls[0], rounds)), rate(urls[1], rounds)
        await rounds.compare(f"media of {MEDIA_BYTES // 1000} KB", "requests/s", streamed, through_gateway, HALF)


async def measure_writes(running: Deployment, rounds: Rounds) -> None:
    """POST, PUT and DELETE with one client and with many, and the CPU time of each in all processes."""
    data = jpeg_of_size(UPLOAD_BYTES)
    loads = (1, WRITE_CLIENTS)
    updates = len((PUT, DELETE)) * len(loads) * rounds.runs * UPDATES
    async with bare_writes(running.settings) as bare:
        measured = MeasuredWrites(running, bare, data, await stored_images(running, updates))
        for clients in loads:
            costs = await measured.in_turn(clients, rounds)
            if clients == 1:
                report_latency(costs, rounds)
            else:
                report_throughput(costs[POST], rounds)
                report_cpu(costs, rounds)


@dataclass(frozen=True)
class WithFloor:
    """The costs of one kind of write in each round, and those of its floor."""

    floor_name: str
    costs: Sequence[Cost]
    floors: Sequence[Cost]

    def figure(self, name: str, unit: str, of: Callable[[Cost], float], aim: Aim | None) -> Figure:
        """The figure of a part of the cost."""
        return Figure(name, unit, self.floor_name, list(map(of, self.costs)), list(map(of, self.floors)), aim)


@dataclass(frozen=True)
class MeasuredWrites:
    """Measures all kinds of writes and their floors in turn. `images` are there to be replaced and deleted."""

    running: Deployment
    bare: BareWrites
    data: bytes
    images: Iterator[StoredImage]

    async def in_turn(self, clients: int, rounds: Rounds) -> dict[Method, WithFloor]:
        """The costs by method, with this many clients. The floor of a POST is that of a PUT too."""
        writes = Writes(self.running, self.data)
        uploads, posts, puts, records, deletions = await rounds.in_turn(
            lambda: bare_cost(self.running, self.bare, lambda: self.bare.upload(self.data), clients, rounds.seconds),
            lambda: writes.uploads(clients, rounds.seconds),
            lambda: writes.each(PUT, self._updates(), clients),
            lambda: bare_cost(self.running, self.bare, self.bare.delete, clients, rounds.seconds),
            lambda: writes.each(DELETE, self._updates(), clients),
        )
        return {
            POST: WithFloor(BARE_UPLOAD, posts, uploads),
            PUT: WithFloor(BARE_UPLOAD, puts, uploads),
            DELETE: WithFloor(BARE_DELETION, deletions, records),
        }

    def _updates(self) -> list[Request]:
        return [Request(image.path) for image in islice(self.images, UPDATES)]


def report_latency(costs: Mapping[Method, WithFloor], rounds: Rounds) -> None:
    """The time of one write."""
    for method, found in costs.items():
        rounds.report(
            found.figure(f"{TITLES[method]}, one client: p50", "ms", lambda cost: cost.p50_ms, P50_AIMS[method])
        )


def report_throughput(posts: WithFloor, rounds: Rounds) -> None:
    """Uploads per second."""
    name = f"{TITLES[POST]}, {WRITE_CLIENTS} clients"
    rounds.report(posts.figure(name, "requests/s", lambda cost: cost.rate, Aim("at least", 0.45)))


def report_cpu(costs: Mapping[Method, WithFloor], rounds: Rounds) -> None:
    """The CPU time of each kind of write, and of an upload in the gateway alone."""
    for method, found in costs.items():
        parts = {part: median(each.cpu[part] for each in found.costs) for part in found.costs[0].cpu}
        figure = found.figure(f"CPU of a {method}, all processes", "ms", lambda cost: cost.all_cpu, CPU_AIMS[method])
        rounds.report(replace(figure, parts=parts))
    values = [each.cpu[Service.GATEWAY] for each in costs[POST].costs]
    floors = [each.cpu[CLIENT] for each in costs[POST].floors]
    aim = Aim("at most", 5, "value")
    rounds.report(Figure("CPU of a POST, gateway", "ms", f"{CLIENT} of {BARE_UPLOAD}", values, floors, aim))

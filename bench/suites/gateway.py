"""Figures of the gateway: uploads, lists, documents and media, driven by wrk. No processor runs beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

import httpx

from bench.deployment import ENGINES, Deployment, deployment, settled_records
from bench.figures import Aim, Figure, Measure, Rounds
from bench.floors.driver import BareDriver, RecordingIndex, Statements
from bench.floors.framework import ETAG, bare_framework
from bench.floors.writes import BareWrites, bare_writes
from bench.load import drive, multipart
from bench.machine import CpuMeter
from bench.photos import jpeg_of_size
from bench.records import answer, logged, upload
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
UPLOAD_CLIENTS = 16
WRITES_AT_ONCE = 16
FRESH = {"Cache-Control": "no-cache"}
FRAMEWORK, DRIVER, BARE_WRITES = "bare FastAPI", "driver alone", "boto3 put, then acked record"
HALF = Aim("at least", 0.5)


async def measure(stack: Stack, rounds: Rounds) -> None:
    """Measure all figures of the gateway."""
    with deployment(stack, Service.GATEWAY, Service.INDEXER) as running:
        images = await store_images(running)
        for page in await pages(running, images[0]):
            await measure_page(running, page, rounds)
        await measure_media(running, images[0], rounds)
        await measure_uploads(running, rounds)


async def store_images(running: Deployment) -> list[Ready]:
    """Write the rows of ready images, and one variant of the first to the bucket."""
    settings = running.settings
    images = [answer(logged(upload(number, settings), number, settings), settings) for number in range(IMAGES)]
    index, store = await CassandraIndex.open(settings), S3Store.from_settings(settings)
    try:
        await for_each(images, lambda event: index.apply(event_writes(event, settings.day_shards)), WRITES_AT_ONCE)
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


@dataclass(frozen=True)
class Uploads:
    """A run of uploads or of bare writes. `cpu` has the CPU time by process, in ms for each upload."""

    p50_ms: float
    rate: float
    cpu: dict[str, float]

    @property
    def all_cpu(self) -> float:
        """CPU time of all processes."""
        return sum(self.cpu.values())


async def measure_uploads(running: Deployment, rounds: Rounds) -> None:
    """POST /images with one client and with many, and the CPU time of an upload in all processes."""
    data = jpeg_of_size(UPLOAD_BYTES)
    async with bare_writes(running.settings) as writes:
        for clients in (1, UPLOAD_CLIENTS):

            async def floor(clients: int = clients) -> Uploads:
                return await write_bare(running, writes, data, clients, rounds.seconds)

            async def post(clients: int = clients) -> Uploads:
                return await upload_repeatedly(running, data, clients, rounds.seconds)

            floors, posts = await rounds.in_turn(floor, post)
            if clients == 1:
                report_latency(floors, posts, rounds)
            else:
                report_throughput(floors, posts, rounds)


async def write_bare(running: Deployment, writes: BareWrites, data: bytes, clients: int, seconds: float) -> Uploads:
    """The same bytes without the gateway."""
    meter = CpuMeter({name: running.stack.pid(name) for name in ENGINES})
    done = await writes.run(data, clients, seconds)
    return Uploads(done.p50_ms, done.rate, per_upload(meter.seconds() | {"client": done.client_cpu}, done.writes))


async def upload_repeatedly(running: Deployment, data: bytes, clients: int, seconds: float) -> Uploads:
    """Upload for this time, then wait until the index is up to date: its work belongs to the upload too."""
    form = running.directory / "form"
    body, content_type = multipart(data)
    form.write_bytes(body)
    indexer = running.services[Service.INDEXER]
    settled, meter = settled_records(indexer), running.meter()
    done = await drive(
        f"{running.base_url}/images?user_id=1", clients=clients, seconds=seconds, method="POST",
        headers={"Content-Type": content_type}, body=form,
    )  # fmt: skip
    await running.indexed(settled + done.requests)
    return Uploads(done.p50_ms, done.rate, per_upload(meter.seconds() | {"client": done.client_cpu}, done.requests))


def per_upload(seconds: dict[str, float], uploads: int) -> dict[str, float]:
    """Milliseconds of each process for one upload."""
    return {name: 1000 * value / uploads for name, value in seconds.items()}


def report_latency(floors: Sequence[Uploads], posts: Sequence[Uploads], rounds: Rounds) -> None:
    """The time of one upload."""
    values, bare = [each.p50_ms for each in posts], [each.p50_ms for each in floors]
    rounds.report(Figure("POST of 60 KB, one client: p50", "ms", BARE_WRITES, values, bare, Aim("at most", 2.0)))


def report_throughput(floors: Sequence[Uploads], posts: Sequence[Uploads], rounds: Rounds) -> None:
    """Uploads per second, and their CPU time."""
    values, bare = [each.rate for each in posts], [each.rate for each in floors]
    name = f"POST of 60 KB, {UPLOAD_CLIENTS} clients"
    rounds.report(Figure(name, "requests/s", BARE_WRITES, values, bare, Aim("at least", 0.45)))
    parts = {part: median(each.cpu[part] for each in posts) for part in posts[0].cpu}
    values, bare = [each.all_cpu for each in posts], [each.all_cpu for each in floors]
    aim = Aim("at most", 16, "value")
    rounds.report(Figure("CPU of a POST, all processes", "ms", BARE_WRITES, values, bare, aim, parts))
    values, bare = [each.cpu[Service.GATEWAY] for each in posts], [each.cpu["client"] for each in floors]
    aim = Aim("at most", 5, "value")
    rounds.report(Figure("CPU of a POST, gateway", "ms", f"client of {BARE_WRITES}", values, bare, aim))

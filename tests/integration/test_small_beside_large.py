"""A small image is ready long before a huge one of another owner that was started first (invariant 4)."""

import re
import statistics
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from pathlib import Path
from uuid import UUID

import pytest
from PIL import Image

from shared.contract.events import Uploaded
from shared.contract.keys import Owner
from shared.observability.metrics import Service
from shared.s3.store import S3Store
from shared.settings import Settings
from tests.support import images
from tests.support.isolation import isolated
from tests.support.log import publisher
from tests.support.processes.service import ServiceProcess
from tests.support.stored_upload import put_upload
from tests.support.waiting import wait_for_async

HUGE_SIDE = 5_000
"""25 megapixels: the whole budget of this processor, a quarter of which counts as small."""
HUGE_OWNER, SMALL_OWNER = Owner(type="user", id="huge"), Owner(type="user", id="small")
SECONDS = 300


@pytest.fixture
def settings(engines: Settings) -> Iterator[Settings]:
    bounds = {"render_workers": 2, "max_inflight_pixels": HUGE_SIDE**2}
    with isolated(engines.model_copy(update=bounds), topics=True, bucket=True, topic_partitions=1) as found:
        yield found


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[S3Store]:
    found = S3Store.from_settings(settings)
    yield found
    await found.close()


@pytest.fixture
def processor(settings: Settings, tmp_path: Path) -> Iterator[ServiceProcess]:
    found = ServiceProcess(Service.PROCESSOR, settings, tmp_path / "processor.log")
    yield found
    found.end()


def huge_png() -> bytes:
    """An RGBA gradient, whose alpha channel makes each pixel expensive."""
    gradient = Image.linear_gradient("L").resize((HUGE_SIDE, HUGE_SIDE))
    picture = Image.merge("RGBA", (gradient, gradient.rotate(90), gradient.rotate(180), gradient.rotate(270)))
    file = BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def latency(processor: ServiceProcess, image_id: UUID) -> float | None:
    """Seconds from the append of the command to its answer; None if it has none."""
    for entry in processor.logged("command_done"):
        if entry["image_id"] == str(image_id):
            return float(entry["queued_seconds"]) + float(entry["seconds"])
    return None


async def test_small_image_beside_a_huge_one_is_ready_first(
    settings: Settings, store: S3Store, processor: ServiceProcess
) -> None:
    photo = images.encode(images.photo(1600, 1200), "JPEG")

    async def stored(owner: Owner, data: bytes) -> Uploaded:
        return await put_upload(store, owner, data, settings.public_base_url, ladder=settings.ladder)

    async def done(upload: Uploaded) -> float:
        await wait_for_async(lambda: latency(processor, upload.image_id) is not None, SECONDS, "the answer")
        found = latency(processor, upload.image_id)
        assert found is not None
        return found

    huge, *small = [await stored(HUGE_OWNER, huge_png()), *[await stored(SMALL_OWNER, photo) for _ in range(6)]]
    processor.start()
    await processor.wait_ready_async()
    async with publisher(settings) as log:
        idle = []
        for upload in small[:3]:
            await log.commands([upload])
            idle.append(await done(upload))
        await log.commands([huge])
        await wait_for_async(lambda: is_rendering(processor), SECONDS, "the huge image is being rendered")
        beside = []
        for upload in small[3:]:
            await log.commands([upload])
            beside.append(await done(upload))
        overtaken = latency(processor, huge.image_id) is None
    print(f"\nidle {idle}, beside the huge image {beside}, the huge image {await done(huge):.1f} s")
    assert overtaken, "the small images waited for the huge one"
    assert statistics.median(beside) < await done(huge) / 2


def is_rendering(processor: ServiceProcess) -> bool:
    busy = re.search(r"^imagepipe_processor_render_busy (\S+)", processor.get("metrics")[1], re.MULTILINE)
    return busy is not None and float(busy[1]) > 0

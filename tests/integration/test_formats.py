"""Variants in other formats, on real engines: rendered, served, reprocessed, verified, swept and erased like WebP."""

import asyncio
import hashlib
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import httpx
from PIL import Image

from ops.bucket.sweeper import Sweeper
from ops.terminal.output import Output
from shared.contract.keys import Owner, image_prefix
from shared.contract.ladder import Ladder
from shared.s3.store import s3_client
from tests.support.api import JPEG, Api
from tests.support.engines.stack import Stack
from tests.support.processes.gateway import own_gateway
from tests.support.processes.imagepipe import imagepipe_json
from tests.support.synthetic import Deployment

LADDER = Ladder(avif_quality=60, share_quality=85)
OWNER = Owner(type="formats", id="1")


def test_the_services_render_serve_reprocess_and_erase_each_format(
    api: Api, stack: Stack, owner: dict[str, str], tmp_path: Path
) -> None:
    """The ladder is in the command, so the processor of the stack needs no setting."""
    with (
        own_gateway(stack.settings, tmp_path / "gateway.log", ladder=LADDER) as gateway,
        Api(gateway.base_url) as client,
    ):
        image_id = client.upload(JPEG, **owner)["image_id"]
        found = api.settled(image_id)
        assert (found["status"], [each["name"] for each in found["variants"]]) == ("ready", list(LADDER.names))
        for rung, variant in zip(LADDER.variants, found["variants"], strict=True):
            fetched = httpx.get(variant["url"], trust_env=False)
            assert fetched.headers["content-type"] == variant["content_type"] == rung.content_type
            assert hashlib.sha256(fetched.content).hexdigest() == variant["sha256"]
            picture = Image.open(BytesIO(fetched.content))
            assert (picture.format, *picture.size) == (rung.format.upper(), variant["width"], variant["height"])
        assert fetched.headers["content-disposition"].startswith('inline; filename="photo-share.jpg"')
        assert [source["type"] for source in found["picture"]["sources"]] == ["image/avif", "image/webp", "image/jpeg"]
    done = imagepipe_json(stack.settings, "reprocess", "--image", image_id, "--yes")
    assert done["published"] == 1
    api.settled(image_id, lambda document: len(document["variants"]) == len(Ladder().names))
    done = imagepipe_json(stack.settings, "erase", "--owner", f"user:{owner['user_id']}", "--yes")
    assert done["complete"]
    objects = s3_client(stack.settings).list_objects_v2(Bucket=stack.settings.s3_bucket, Prefix=f"images/{image_id}/")
    assert objects["KeyCount"] == 0


async def test_verify_and_the_sweep_know_each_format(world: Deployment) -> None:
    world.ladder = LADDER
    image = await world.ready(OWNER)
    await world.answer(await world.reprocess(image, Ladder()))
    verified = await asyncio.to_thread(imagepipe_json, world.settings, "verify", "--grace", "0s")
    assert (verified["images"], verified["differences"]) == (1, [])

    before = {info.key for info in await world.store.list(image_prefix(image.command.image_id))}
    superseded = {key for key in before if LADDER.digest in key and key.endswith((".webp", ".avif", ".jpg"))}
    assert len(superseded) == len(LADDER.names)
    at_once = world.settings.model_copy(update={"sweep_delay": timedelta(0)})
    swept = await Sweeper(at_once, world.store, Output(True)).run(apply=True)
    assert set(swept.keys) == superseded

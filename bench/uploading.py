"""Uploads of photos as a client makes them, and by bare requests where the requests themselves are measured."""

import asyncio

import httpx

from imagepipe_client import AsyncClient

OWNER_TYPE = "bench"
READY_SECONDS = 600.0
"""On a loaded deployment a photo may wait for many others."""


async def upload_and_wait(client: AsyncClient, photo: bytes, owner: str) -> None:
    """Upload a photo and wait until it is ready: by its events, as a client does. Raises RuntimeError if it failed."""
    image = await client.wait(await client.upload(photo, owner=(OWNER_TYPE, owner)), READY_SECONDS)
    if image.status == "failed":
        raise RuntimeError(f"{image.id}: {image.error}")


async def post(http: httpx.AsyncClient, data: bytes, owner: str) -> str:
    """Upload by one request, without an idempotency key; returns the image's id."""
    answer = await http.post("/images", params={"owner_type": OWNER_TYPE, "owner_id": owner}, files={"image": data})
    answer.raise_for_status()
    image_id: str = answer.json()["image_id"]
    return image_id


async def is_ready(http: httpx.AsyncClient, image_id: str) -> bool:
    """Whether clients see the variants. Raises RuntimeError if the image failed."""
    answer = await http.get(f"/images/{image_id}/metadata", headers={"Cache-Control": "no-cache"})
    document = answer.raise_for_status().json()
    if document["status"] == "failed":
        raise RuntimeError(f"{image_id}: {document['error']}")
    return bool(document["status"] == "ready")


async def ready(http: httpx.AsyncClient, image_id: str, pause: float) -> None:
    """Wait until the image is ready, with `pause` seconds between two requests."""
    while not await is_ready(http, image_id):  # noqa: ASYNC110 - only requests, without a stream beside them
        await asyncio.sleep(pause)

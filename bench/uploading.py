"""A client of the gateway that uploads photos and waits for their variants."""

import asyncio

import httpx

POLL_SECONDS = 0.05


async def post(http: httpx.AsyncClient, data: bytes, owner: str) -> str:
    """Upload; returns the image's id."""
    answer = await http.post("/images", params={"owner_type": "bench", "owner_id": owner}, files={"image": data})
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


async def ready(http: httpx.AsyncClient, image_id: str, pause: float = POLL_SECONDS) -> None:
    """Wait until the image is ready, with `pause` seconds between two requests."""
    while not await is_ready(http, image_id):  # noqa: ASYNC110 - the gateway sends no event
        await asyncio.sleep(pause)

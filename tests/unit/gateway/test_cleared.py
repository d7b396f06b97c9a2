"""After the answer to a clear, the gateway that gave it serves none of the owner's images from its caches."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from shared.contract.events import Deleted
from shared.contract.keys import Owner, command_version
from shared.contract.logged_command import versioned
from shared.errors import Unavailable
from shared.read_model.tables import command_writes
from tests.support.images import encode, photo
from tests.support.memory.gateway import MemoryGateway, memory_settings
from tests.support.waiting import wait_for_async

PNG = encode(photo(40, 30), "PNG")
USER = Owner(type="user", id="1")
LATER = command_version(1, 1000)


def gateway_with_caches() -> MemoryGateway:
    """A gateway whose caches outlive the test, so that only its own changes invalidate them."""
    return MemoryGateway(settings=memory_settings(list_cache_ttl=timedelta(hours=1)))


async def upload(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.post("/images?user_id=1", files={"image": ("a.png", PNG)})
    document: dict[str, Any] = answer.json()
    return document


def paths(image: dict[str, Any]) -> list[str]:
    """Every address that shows the image."""
    bytes_of, media = f"/images/{image['image_id']}", f"/media/{image['original']['path']}"
    return ["/images", "/images?user_id=1", f"{bytes_of}/metadata", bytes_of, media]


async def shown(client: httpx.AsyncClient, image: dict[str, Any]) -> list[str]:
    """The addresses at which the image is served."""
    answers = [(path, await client.get(path)) for path in paths(image)]
    return [path for path, answer in answers if answer.status_code == 200 and answer.content != b"[]"]


async def unavailable(*_: Any, **__: Any) -> None:
    raise Unavailable("cassandra", "unavailable")


async def remove_as_the_indexer(gateway: MemoryGateway, image: dict[str, Any]) -> None:
    """Delete the rows without a notification to this gateway."""
    deleted = Deleted(image_id=UUID(image["image_id"]), owner=USER)
    await gateway.index.apply(command_writes(versioned(deleted, LATER), gateway.settings.day_shards))


async def test_images_that_the_indexer_deleted_first_leave_the_caches() -> None:
    gateway = gateway_with_caches()
    async with gateway.client() as client:
        image = await upload(client)
        assert await shown(client, image) == paths(image)
        await remove_as_the_indexer(gateway, image)
        assert await shown(client, image) == paths(image), "the caches still have the image"
        assert (await client.delete("/images?user_id=1")).status_code == 204
        assert await shown(client, image) == []


async def test_what_is_read_between_the_fence_and_the_answer_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = gateway_with_caches()
    async with gateway.client() as client:
        image = await upload(client)
        of_owner = gateway.index.of_owner

        async def read_then_indexer(*args: Any, **options: Any) -> Sequence[Any]:
            """Right after the fence a client reads everything; then the indexer reaches the fence first."""
            monkeypatch.undo()
            assert await shown(client, image) == paths(image)
            await remove_as_the_indexer(gateway, image)
            return await of_owner(*args, **options)

        monkeypatch.setattr(gateway.index, "of_owner", read_then_indexer)
        assert (await client.delete("/images?user_id=1")).status_code == 204
        assert await shown(client, image) == []


@pytest.mark.parametrize(
    ("path", "method"), [("/images?user_id=1", "of_owner"), ("/images/{image_id}/metadata", "image")]
)
async def test_a_read_that_is_held_open_across_the_clear_is_not_kept(
    path: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = gateway_with_caches()
    async with gateway.client() as client:
        image = await upload(client)
        found, opened = asyncio.Event(), asyncio.Event()
        read: Callable[..., Awaitable[Any]] = getattr(gateway.index, method)

        async def slow(*args: Any, **options: Any) -> Any:
            result = await read(*args, **options)
            found.set()
            await opened.wait()
            return result

        monkeypatch.setattr(gateway.index, method, slow)
        held = asyncio.create_task(client.get(path.format(**image)))
        await wait_for_async(found.is_set, 10, "the read")
        monkeypatch.undo()
        assert (await client.delete("/images?user_id=1")).status_code == 204
        opened.set()
        await held
        assert await shown(client, image) == []


async def test_a_clear_leaves_what_is_cached_of_other_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = gateway_with_caches()
    async with gateway.client() as client:
        answer = await client.post("/images?user_id=2", files={"image": ("a.png", PNG)})
        other = f"/images/{answer.json()['image_id']}/metadata"
        await client.get("/images?user_id=2")
        await client.get(other)
        await client.delete("/images?user_id=1")
        for method in ("image", "ids", "rows", "of_owner"):
            monkeypatch.setattr(gateway.index, method, unavailable)
        assert [(await client.get(path)).status_code for path in ("/images?user_id=2", other)] == [200, 200]

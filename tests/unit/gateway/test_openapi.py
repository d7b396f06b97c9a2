"""The examples in the description of the API are requests that the gateway accepts."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from gateway.app import create_app
from gateway.events.ring import Ring
from gateway.http.schemas import EXAMPLE
from shared.contract.events import Original, Uploaded
from shared.contract.keys import Ids, Owner, incoming_prefix, parse_media_path
from shared.contract.ladder import Ladder
from shared.observability.metrics import Service
from tests.support.images import encode, photo
from tests.support.memory.gateway import MemoryGateway, MemoryKeyIssuer
from tests.support.metric_samples import sample
from tests.support.waiting import wait_for_async

PNG = encode(photo(40, 30), "PNG")
SCHEMA = create_app(MemoryGateway().services).openapi()
OPERATIONS = [(method, path) for path, operations in SCHEMA["paths"].items() for method in operations]


async def world() -> MemoryGateway:
    """A gateway with what the examples name: an image of the user 1, and an incoming object."""
    gateway = MemoryGateway(keys=MemoryKeyIssuer())
    gateway.services.listeners.open(Ring(1, [0], max_bytes=1, max_age=1))
    owner = Owner(type="user", id="1")
    await gateway.store.put(f"{incoming_prefix(owner)}dune.jpg", PNG, "image/png")
    original = Original.model_validate({name: EXAMPLE["original"][name] for name in Original.model_fields})
    path = parse_media_path(original.path)
    assert path is not None
    await gateway.store.put(original.path, PNG, original.content_type)
    ids = Ids(UUID(EXAMPLE["image_id"]), path.revision)
    await gateway.services.journal.append(
        Uploaded(image_id=ids.image_id, owner=owner, revision=ids.revision, original=original, ladder=Ladder())
    )
    return gateway


def example_of(parameter: dict[str, Any]) -> Any:
    """The example of a parameter or a property; None without one."""
    schema = parameter.get("schema", parameter)
    return parameter.get("example", schema.get("example", next(iter(schema.get("examples", ())), None)))


def request_of(method: str, path: str) -> list[dict[str, Any]]:
    """Arguments of a request for each media type of the operation's body, made of nothing but its examples."""
    operation = SCHEMA["paths"][path][method]
    query: dict[str, Any] = {}
    headers: dict[str, str] = {}
    for parameter in operation.get("parameters", ()):
        example = example_of(parameter)
        if example is None:
            assert not parameter["required"], parameter["name"]
        elif parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(example))
        else:
            {"query": query, "header": headers}[parameter["in"]][parameter["name"]] = example
    common = {"method": method, "url": path, "params": query, "headers": headers}
    content = operation.get("requestBody", {}).get("content", {})
    return [common | body_of(media_type, found) for media_type, found in content.items()] or [common]


def body_of(media_type: str, content: dict[str, Any]) -> dict[str, Any]:
    if media_type == "application/json":
        return {"json": content["example"]}
    fields = {name: example_of(found) for name, found in content["schema"]["properties"].items()}
    filled = {name: str(value) for name, value in fields.items() if value is not None}
    # OpenAPI has no examples of files.
    return {"data": filled, "files": {"image": ("dune.png", PNG)}}


async def end_streams(gateway: MemoryGateway) -> None:
    """End a stream of live events once it has begun. It has no other end."""

    async def begun() -> bool:
        return sample(Service.GATEWAY, "imagepipe_gateway_event_listeners") > 0

    await wait_for_async(begun, 30, "the stream begins")
    gateway.services.listeners.close()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_the_examples_of_an_operation_are_accepted(method: str, path: str) -> None:
    for arguments in request_of(method, path):
        gateway = await world()
        ending = asyncio.create_task(end_streams(gateway))
        async with gateway.client() as client:
            answer: httpx.Response = await client.request(**arguments)
        ending.cancel()
        assert answer.is_success, (arguments, answer.text)


async def test_an_owner_named_twice_is_what_the_examples_avoid() -> None:
    async with MemoryGateway().client() as client:
        answer = await client.delete("/images?user_id=1&owner_type=user&owner_id=1")

    assert answer.json()["code"] == "invalid_owner"

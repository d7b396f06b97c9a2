"""The Python client against a real gateway: its calls, a retry without a second image, a restart while following."""

import asyncio
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import takewhile
from pathlib import Path

import httpx
import pytest

from imagepipe_client import (
    AsyncClient,
    Client,
    Event,
    FileRefused,
    Image,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    Resync,
    Retry,
)
from tests.support.api import JPEG, PNG
from tests.support.engines.stack import Stack
from tests.support.images import decode
from tests.support.processes.gateway import GatewayProcess
from tests.support.waiting import wait_for

SECONDS = 60.0
ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.base_url) as found:
        yield found


@pytest.fixture
def owner() -> tuple[str, str]:
    return ("user", secrets.token_hex(8))


def test_an_image_from_upload_to_deletion(client: Client, owner: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "düne.jpg"
    path.write_bytes(JPEG)
    image = client.wait(client.upload(path, owner=owner), SECONDS)
    assert (image.status, image.file_name, image.owner) == ("ready", "düne.jpg", owner)
    assert list(image.variants) == ["full", "large", "medium", "small"]
    assert decode(client.content(image.id, "small")).size[0] == image.variants["small"].width
    assert client.content(image.id) == JPEG

    replaced = client.wait(client.replace(image.id, PNG, name="new.png", if_match=image.version), SECONDS)
    with pytest.raises(PreconditionFailed):
        client.delete(image.id, if_match=image.version)
    assert (replaced.id, replaced.original and replaced.original.file_name) == (image.id, "new.png")
    assert replaced.original is not None
    client.delete_by_url(replaced.original.url)
    with pytest.raises(NotFound):
        client.get(image.id)


def test_sets_lists_and_refusals(client: Client, owner: tuple[str, str]) -> None:
    results = client.upload_many([JPEG, b"text", PNG], owner=owner)
    assert [type(result) for result in results] == [Image, FileRefused, Image]
    accepted = [result.id for result in results if isinstance(result, Image)]
    assert [image.id for image in client.images(owner, page_size=1)] == accepted[::-1]
    [kept] = client.replace_all([JPEG, PNG], owner=owner)[:1]
    assert kept.id not in accepted
    assert len(list(client.images(owner))) == 2
    client.clear(owner)
    assert list(client.images(owner)) == []
    with pytest.raises(InvalidRequest, match="Invalid owner"):
        client.upload(JPEG, owner=("User", "1"))


def test_events_continue_a_snapshot(client: Client, owner: tuple[str, str]) -> None:
    first = client.wait(client.upload(JPEG, owner=owner), SECONDS)
    found = client.snapshot(owner, page_size=1)
    assert [image.id for image in found.images] == [first.id]
    assert found.position is not None
    client.delete(first.id)
    with closing(client.events(owners=[owner], position=found.position)) as events:
        assert any(isinstance(event, Event) and event.type == "image.removed" for event in events)


def test_an_upload_with_temporary_keys(client: Client, owner: tuple[str, str]) -> None:
    image = client.upload_directly(JPEG, owner=owner, name="düne ~1.jpg")
    assert (image.file_name, image.owner) == ("düne ~1.jpg", owner)
    assert client.content(image.id) == JPEG


def test_a_repeated_upload_makes_one_image(stack: Stack, owner: tuple[str, str]) -> None:
    class Losing(httpx.HTTPTransport):
        """Loses the answer to the first request, which the gateway has carried out."""

        lost = 0

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            answer = super().handle_request(request)
            if request.method == "POST" and not self.lost:
                self.lost += 1
                answer.close()
                raise httpx.ReadError("lost by the test")
            return answer

    transport = Losing()
    with httpx.Client(transport=transport, timeout=60) as http:
        client = Client(stack.base_url, http=http, retry=Retry(first_pause=0.05))
        image = client.upload(JPEG, owner=owner)
        assert [each.id for each in client.images(owner)] == [image.id]
    assert transport.lost == 1


def test_the_async_client(stack: Stack, owner: tuple[str, str]) -> None:
    async def work() -> list[str]:
        async with AsyncClient(stack.base_url) as client:
            uploaded = await asyncio.gather(*(client.upload(JPEG, owner=owner) for _ in range(3)))
            ready = await asyncio.gather(*(client.wait(image) for image in uploaded))
            assert {image.status for image in ready} == {"ready"}
            return [image.id async for image in client.images(owner)]

    assert len(asyncio.run(work())) == 3


def test_following_goes_on_over_a_restart_of_the_gateway(
    client: Client, stack: Stack, owner: tuple[str, str], tmp_path: Path
) -> None:
    gateway = GatewayProcess(stack.settings, tmp_path / "gateway.log")
    gateway.start()
    found: list[Event | Resync] = []
    try:
        gateway.wait_up()
        follower = Client(gateway.base_url, retry=Retry(attempts=60, first_pause=0.2, longest_pause=1))
        position = follower.events_position()

        def follow() -> None:
            with closing(follower), closing(follower.events(owners=[owner], position=position)) as events:
                found.extend(
                    takewhile(lambda event: not isinstance(event, Event) or event.type != "image.removed", events)
                )

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        before = client.upload(JPEG, owner=owner)
        wait_for(lambda: found, SECONDS, "the first event")
        gateway.signal(signal.SIGKILL)
        gateway.wait_ended()
        during = client.upload(JPEG, owner=owner)
        client.wait(during, SECONDS)
        gateway.start()
        gateway.wait_up()
        client.delete(before.id)
        thread.join(SECONDS)
        assert not thread.is_alive()
    finally:
        gateway.end()
    assert all(isinstance(event, Event) for event in found)
    assert {event.image_id for event in found if isinstance(event, Event)} == {before.id, during.id}


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_each_code_block_of_the_page_runs(number: int, stack: Stack, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(BLOCKS[number].replace("http://127.0.0.1:8000", stack.base_url))
    done = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr

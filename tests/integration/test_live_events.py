"""Live events over HTTP: two gateways, selections, resuming, and no event missed while processes and Kafka fail."""

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from shared.contract.encoding import decode_event
from shared.contract.events import Event
from tests.support.api import JPEG, Api
from tests.support.engines.stack import Stack
from tests.support.processes.gateway import GatewayProcess, own_gateway
from tests.support.waiting import wait_for

SECONDS = 60.0


class Listener:
    """Follows a stream in a thread. It connects again with the last id, as a browser does."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.events: list[Event] = []
        self.names: list[str] = []
        self.connections = 0
        self.last_id: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        wait_for(lambda: self.last_id, SECONDS, "the stream begins")

    def close(self) -> None:
        self._stop.set()

    def wait_for(self, look: Callable[["Listener"], bool]) -> None:
        """Wait until what it has heard is as wanted."""
        wait_for(lambda: look(self), SECONDS, "the events")

    def ready(self) -> list[str]:
        """Ids of the images that became ready, in the order of the stream."""
        return [str(event.image_id) for event in self.events if event.type == "image.ready"]

    def _follow(self) -> None:
        while not self._stop.is_set():
            with suppress(httpx.TransportError):
                self._connect()
            time.sleep(0.2)

    def _connect(self) -> None:
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        timeout = httpx.Timeout(5, read=30)
        with httpx.stream("GET", self.url, headers=headers, timeout=timeout, trust_env=False) as answer:
            if answer.status_code != 200:
                return
            self.connections += 1
            block: dict[str, str] = {}
            for line in answer.iter_lines():
                if self._stop.is_set():
                    return
                if line:
                    name, _, value = line.partition(": ")
                    block[name] = value
                    continue
                self._dispatch(block)
                block = {}

    def _dispatch(self, block: dict[str, str]) -> None:
        self.last_id = block.get("id", self.last_id)
        if "data" in block:
            self.names.append(block["event"])
            if block["event"] != "resync":
                self.events.append(decode_event(block["data"].encode()))


@contextmanager
def following(*urls: str) -> Iterator[list[Listener]]:
    listeners = [Listener(url) for url in urls]
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


def test_two_gateways_send_the_same_events(api: Api, stack: Stack, owner: dict[str, str], tmp_path: Path) -> None:
    with own_gateway(stack.settings, tmp_path / "gateway.log") as second:
        of_owner = f"/events?user_id={owner['user_id']}"
        wait_for(lambda: httpx.get(f"{second.base_url}/readyz", trust_env=False) is not None, SECONDS, "the gateway")
        with following(*(f"{base}{of_owner}" for base in (stack.base_url, second.base_url))) as (here, there):
            uploaded = [api.upload(JPEG, **owner)["image_id"] for _ in range(5)]
            api.upload(JPEG, user_id=secrets.token_hex(8))
            api.delete(f"/images/{uploaded[0]}").raise_for_status()
            for listener in (here, there):
                listener.wait_for(
                    lambda heard: "image.removed" in heard.names and set(uploaded[1:]) <= set(heard.ready())
                )
    assert {str(event.image_id) for event in here.events} == set(uploaded)
    assert sorted(event.model_dump_json() for event in here.events) == sorted(
        event.model_dump_json() for event in there.events
    )


def test_a_stream_continues_a_list_without_a_gap(api: Api, stack: Stack, owner: dict[str, str]) -> None:
    """Lists are read while images are uploaded. An image that a list does not show as ready is in the list's stream."""
    uploaded: list[str] = []

    def upload() -> None:
        with Api(stack.base_url) as client:
            uploaded.extend(client.upload(JPEG, **owner)["image_id"] for _ in range(25))

    uploading = threading.Thread(target=upload)
    uploading.start()
    shown: list[set[str]] = []
    urls: list[str] = []
    while uploading.is_alive():
        answer = api.get("/images", params=owner)
        shown.append({image["image_id"] for image in answer.json() if image["status"] == "ready"})
        urls.append(answer.links["monitor"]["url"])
        time.sleep(0.3)
    with following(*urls) as listeners:
        for ready, listener in zip(shown, listeners, strict=True):
            listener.wait_for(lambda heard, ready=ready: set(uploaded) <= ready | set(heard.ready()))  # type: ignore[misc]
    assert all("resync" not in listener.names for listener in listeners)
    assert {len(ready) < len(uploaded) for ready in shown} == {True}


def test_a_stream_continues_a_document(api: Api, owner: dict[str, str]) -> None:
    image_id = api.upload(JPEG, **owner)["image_id"]
    answer = api.get(f"/images/{image_id}/metadata")
    with following(answer.links["monitor"]["url"]) as (listener,):
        listener.wait_for(lambda heard: answer.json()["status"] == "ready" or heard.ready() == [image_id])


def test_the_events_of_one_image_and_of_some_types(api: Api, stack: Stack, owner: dict[str, str]) -> None:
    image_id = api.settled(api.upload(JPEG, **owner)["image_id"])["image_id"]
    urls = (f"/images/{image_id}/events", f"/events?type=image.removed&user_id={owner['user_id']}&user_id=other")
    with following(*(f"{stack.base_url}{url}" for url in urls)) as (of_image, of_type):
        other = api.settled(api.upload(JPEG, **owner)["image_id"])["image_id"]
        for each in (image_id, other):
            api.delete(f"/images/{each}").raise_for_status()
        wait_for(lambda: len(of_type.names) == 2, SECONDS, "both deletions")
        wait_for(lambda: of_image.names == ["image.removed"], SECONDS, "the deletion of the image")
    assert [str(event.image_id) for event in of_image.events] == [image_id]


@pytest.mark.parametrize(
    ("query", "headers", "code"),
    [
        ("type=image.unheard", {}, "bad_request"),
        ("owner_type=user", {}, "invalid_owner"),
        ("", {"Last-Event-ID": "17"}, "bad_request"),
        ("last_event_id=AQE%3D", {}, "bad_request"),
    ],
)
def test_a_wrong_request_is_a_problem(api: Api, query: str, headers: dict[str, str], code: str) -> None:
    answer = api.get(f"/events?{query}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_a_position_of_long_ago_is_answered_by_resync(
    api: Api, stack: Stack, owner: dict[str, str], tmp_path: Path
) -> None:
    with own_gateway(stack.settings, tmp_path / "gateway.log", events_buffer_memory=1) as gateway:
        with following(f"{gateway.base_url}/events") as (listener,):
            old = listener.last_id
            api.settled(api.upload(JPEG, **owner)["image_id"])
            listener.wait_for(lambda heard: heard.last_id != old)
        url = f"{gateway.base_url}/events?last_event_id={old}"
        with httpx.stream("GET", url, timeout=10, trust_env=False) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-accel-buffering"] == "no"
            assert next(answer.iter_lines()) == "event: resync"


def test_too_many_listeners_are_refused(stack: Stack, tmp_path: Path) -> None:
    with own_gateway(stack.settings, tmp_path / "gateway.log", max_event_listeners=2) as gateway:
        url = f"{gateway.base_url}/events"
        with following(url, url):
            answer = httpx.get(url, trust_env=False)
            assert (answer.status_code, answer.json()["code"]) == (429, "too_many_listeners")
            assert answer.headers["retry-after"]


@pytest.mark.slow
def test_no_event_is_missed_while_the_processor_kafka_and_the_gateway_fail(
    api: Api, stack: Stack, owner: dict[str, str], tmp_path: Path
) -> None:
    """The processor is killed, Kafka stands still for 20 seconds, and the gateway of the listener is killed."""
    if not (stack.runs("kafka") and stack.runs("processor")):
        pytest.skip("the engines belong to somebody else")
    gateway = GatewayProcess(stack.settings, tmp_path / "gateway.log")
    gateway.start()
    try:
        gateway.wait_up()
        with following(f"{gateway.base_url}/events?user_id={owner['user_id']}") as (listener,):
            uploaded: list[str] = []

            def upload(count: int) -> None:
                uploaded.extend(api.upload(JPEG, **owner)["image_id"] for _ in range(count))

            upload(4)
            stack.wait_restarted("processor", stack.kill("processor"))
            upload(4)
            pid = stack.pid("kafka")
            os.kill(pid, signal.SIGSTOP)
            try:
                time.sleep(20)
            finally:
                os.kill(pid, signal.SIGCONT)
            wait_for(lambda: api.get("/images", params={**owner, "limit": 1}).is_success, SECONDS, "a list")
            upload(4)
            gateway.signal(signal.SIGKILL)
            gateway.wait_ended()
            upload(4)
            gateway.start()
            gateway.wait_up()
            upload(2)
            wait_for(lambda: set(uploaded) <= set(listener.ready()), 120, "an event of every image")
    finally:
        gateway.end()
    assert "resync" not in listener.names
    assert listener.connections >= 2
    assert sorted(set(listener.ready())) == sorted(uploaded)

"""The client against a gateway that is a function: what it sends, repeats, waits for and raises."""

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.http.schemas import EXAMPLE
from imagepipe_client import (
    AsyncClient,
    Client,
    ConnectionFailed,
    Event,
    FileRefused,
    Image,
    NotFound,
    Problem,
    Resync,
    Retry,
    Unavailable,
    WaitTimedOut,
)

Handler = Callable[[httpx.Request], httpx.Response]
BASE = "http://gateway/api"
IMAGE_ID = EXAMPLE["image_id"]
READY = EXAMPLE | {"status": "ready"}
FAST = Retry(attempts=3, first_pause=0.001, longest_pause=0.01)


def problem(status: int, code: str, **extra: Any) -> httpx.Response:
    document = {"type": f"/problems/{code}", "title": "T", "status": status, "detail": "D", "code": code, **extra}
    return httpx.Response(status, json=document, headers={"Content-Type": "application/problem+json"})


def images(*documents: dict[str, Any], status: int = 202) -> httpx.Response:
    return httpx.Response(status, json={"images": list(documents)})


class Gateway:
    """Gives the next answer to each request, and keeps the requests. An exception is raised instead."""

    def __init__(self, *answers: httpx.Response | Exception | Handler) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    def client(self, retry: Retry = FAST) -> Client:
        return Client(BASE, retry=retry, http=httpx.Client(transport=httpx.MockTransport(self._read)))

    def async_client(self) -> AsyncClient:
        async def handle(request: httpx.Request) -> httpx.Response:
            await request.aread()
            return self(request)

        return AsyncClient(BASE, retry=FAST, http=httpx.AsyncClient(transport=httpx.MockTransport(handle)))

    def _read(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return self(request)


def test_an_upload_is_repeated_under_one_key() -> None:
    gateway = Gateway(httpx.ConnectError("refused"), problem(503, "unavailable"), httpx.Response(202, json=EXAMPLE))
    image = gateway.client().upload(b"bytes", name="dune.jpg", owner=("user", "1"))
    assert (image.id, image.status, image.owner) == (IMAGE_ID, "processing", ("user", "1"))
    assert image.original is not None
    assert image.original.width == 1600
    assert len({request.headers["Idempotency-Key"] for request in gateway.requests}) == 1
    assert {str(request.url) for request in gateway.requests} == {f"{BASE}/images?owner_type=user&owner_id=1"}
    assert (
        len({request.content.partition(b"\r\n\r\n")[2].rpartition(b"--")[0][:5] for request in gateway.requests}) == 1
    )
    body = gateway.requests[-1].content
    assert b'filename="dune.jpg"' in body
    assert int(gateway.requests[-1].headers["Content-Length"]) == len(body)


def test_a_source_is_a_path_bytes_or_an_open_file(tmp_path: Path) -> None:
    path = tmp_path / "dune.jpg"
    path.write_bytes(b"bytes")
    gateway = Gateway(httpx.Response(202, json=EXAMPLE))
    client = gateway.client()
    with path.open("rb") as opened:
        for source in (path, str(path), opened, io.BytesIO(b"bytes"), b"bytes"):
            client.upload(source)
    named = [request.content.count(b'filename="dune.jpg"') for request in gateway.requests]
    assert named == [1, 1, 1, 0, 0]
    assert all(b"\r\n\r\nbytes\r\n" in request.content for request in gateway.requests)


def test_progress_reaches_the_whole_body() -> None:
    seen: list[tuple[int, int]] = []
    gateway = Gateway(httpx.Response(202, json=EXAMPLE))
    gateway.client().upload(bytes(200_000), progress=lambda sent, total: seen.append((sent, total)))
    total = len(gateway.requests[0].content)
    assert [each[1] for each in seen] == [total] * 4
    assert [each[0] for each in seen] == [65_536, 131_072, 196_608, total]


def test_attempts_end_with_the_last_failure() -> None:
    gateway = Gateway(problem(429, "saturated"))
    with pytest.raises(Unavailable) as refused:
        gateway.client().upload(b"bytes")
    assert (refused.value.code, len(gateway.requests)) == ("saturated", 3)
    unreachable = Gateway(httpx.ReadTimeout("late"))
    with pytest.raises(ConnectionFailed, match="ReadTimeout: late") as failed:
        unreachable.client().get(IMAGE_ID)
    assert isinstance(failed.value.__cause__, httpx.ReadTimeout)


def test_what_the_gateway_refuses_is_not_repeated() -> None:
    gateway = Gateway(problem(415, "unsupported_format"))
    with pytest.raises(FileRefused, match=r"T \(415\): D"):
        gateway.client().upload(b"text")
    assert len(gateway.requests) == 1


def test_retry_after_is_respected_up_to_the_longest_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("imagepipe_client.sync_client.time.sleep", pauses.append)
    answers = [problem(503, "unavailable"), problem(503, "unavailable"), httpx.Response(202, json=EXAMPLE)]
    answers[0].headers["Retry-After"], answers[1].headers["Retry-After"] = "7", "900"
    Gateway(*answers).client(Retry(attempts=3, first_pause=0.5, longest_pause=20)).upload(b"bytes")
    assert pauses == [7, 20]


def test_many_files_go_in_requests_of_twenty_and_keep_their_order() -> None:
    refused = {"type": "", "title": "T", "status": 415, "detail": "D", "code": "unsupported_format"}

    def answer(request: httpx.Request) -> httpx.Response:
        count = request.content.count(b'; name="image";')
        return httpx.Response(202, json=EXAMPLE) if count == 1 else images(EXAMPLE, *[refused] * (count - 1))

    gateway = Gateway(answer)
    results = gateway.client().upload_many([b"bytes"] * 41)
    assert [index for index, result in enumerate(results) if isinstance(result, Image)] == [0, 20, 40]
    assert all(isinstance(result, FileRefused) for result in results[1:20])
    keys = [request.headers["Idempotency-Key"] for request in gateway.requests]
    assert [key.rpartition("-")[2] for key in keys] == ["0", "20", "40"]


def test_many_files_of_which_none_is_accepted_are_a_result() -> None:
    refused = {"type": "", "title": "T", "status": 422, "detail": "D", "code": "empty"}
    gateway = Gateway(problem(422, "none_accepted", images=[refused, refused]))
    results = gateway.client().upload_many([b"", b""])
    assert [type(result) for result in results] == [FileRefused, FileRefused]


def test_a_delete_whose_answer_was_lost_is_done() -> None:
    Gateway(httpx.ReadError("lost"), problem(404, "not_found")).client().delete(IMAGE_ID)
    with pytest.raises(NotFound):
        Gateway(problem(404, "not_found")).client().delete(IMAGE_ID)


def test_a_condition_is_sent_as_a_quoted_version() -> None:
    gateway = Gateway(httpx.Response(202, json=EXAMPLE))
    gateway.client().replace(IMAGE_ID, b"bytes", if_match=EXAMPLE["version"])
    gateway.client().delete(IMAGE_ID, if_match="7")
    gateway.client().delete(IMAGE_ID)
    sent = [request.headers.get("If-Match") for request in gateway.requests]
    assert sent == [f'"{EXAMPLE["version"]}"', '"7"', None]


def test_a_list_follows_its_cursors_as_it_is_read() -> None:
    def page(request: httpx.Request) -> httpx.Response:
        link = {} if "cursor" in request.url.params else {"Link": f'<{BASE}/images?cursor=c&limit=2>; rel="next"'}
        return httpx.Response(200, json=[EXAMPLE, EXAMPLE], headers=link)

    gateway = Gateway(page)
    found = gateway.client().images(("user", "1"), page_size=2)
    next(found)
    assert len(gateway.requests) == 1
    assert len(list(found)) == 3
    assert dict(gateway.requests[0].url.params) == {"owner_type": "user", "owner_id": "1", "limit": "2"}


def test_a_snapshot_has_the_position_of_its_first_page() -> None:
    def page(request: httpx.Request) -> httpx.Response:
        first = "cursor" not in request.url.params
        monitor = f'<{BASE}/events?last_event_id={"p1" if first else "p2"}>; rel="monitor"'
        following = f', <{BASE}/images?cursor=c>; rel="next"' if first else ""
        return httpx.Response(200, json=[EXAMPLE], headers={"Link": monitor + following})

    found = Gateway(page).client().snapshot()
    assert (len(found.images), found.position) == (2, "p1")
    assert Gateway(httpx.Response(200, json=[])).client().snapshot() == ([], None)


def stream(*blocks: str) -> httpx.Response:
    return httpx.Response(200, text="".join(f"{block}\n\n" for block in blocks))


def event(number: int) -> str:
    data = {"image_id": IMAGE_ID, "owner": {"type": "user", "id": "1"}, "version": str(number), "type": "image.ready"}
    return f"event: image.ready\ndata: {json.dumps(data)}\nid: p{number}"


def test_events_go_on_after_the_last_one() -> None:
    gateway = Gateway(
        stream("id: p0\nretry: 1", event(1), "id: p2\n: "),
        httpx.ConnectError("refused"),
        problem(503, "unavailable"),
        problem(429, "too_many_listeners"),
        stream('event: resync\ndata: {"reason":"old"}\nid: p7', event(8)),
        problem(400, "bad_request"),
    )
    found = gateway.client().events(owners=[("user", "1"), ("album", "2")], types=["image.ready"])
    assert [next(found).position for _ in range(3)] == ["p1", "p7", "p8"]
    with pytest.raises(Problem, match="400"):
        next(found)
    sent = [request.headers.get("Last-Event-ID") for request in gateway.requests]
    assert sent == [None, "p2", "p2", "p2", "p2", "p8"]
    params = gateway.requests[0].url.params
    assert params.get_list("owner_type") == ["user", "album"]
    assert params.get_list("owner_id") == ["1", "2"]
    assert params.get_list("type") == ["image.ready"]


def test_events_and_resync_are_given_with_their_positions() -> None:
    gateway = Gateway(stream("id: p0", event(1), 'event: resync\ndata: {"reason":"old"}\nid: p7', event(8)))
    found: Iterator[Event | Resync] = gateway.client().events(position="before")
    first, resync, second = (next(found) for _ in range(3))
    assert gateway.requests[0].headers["Last-Event-ID"] == "before"
    assert isinstance(first, Event)
    assert (first.version, first.position, first.owner.id, first.image_id) == (1, "p1", "1", IMAGE_ID)
    assert resync == Resync("p7", "old")
    assert isinstance(second, Event)
    assert second.version == 8


def test_a_stream_that_was_never_had_is_an_error() -> None:
    gateway = Gateway(httpx.ConnectError("refused"))
    with pytest.raises(ConnectionFailed):
        next(gateway.client().events())
    assert len(gateway.requests) == 3


def test_waiting_ends_with_the_event() -> None:
    reads = iter([EXAMPLE, EXAMPLE, EXAMPLE, READY])

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return stream("id: p0", event(1))
        assert request.headers["Cache-Control"] == "no-cache"
        return httpx.Response(200, json=next(reads))

    gateway = Gateway(answer)
    assert gateway.client().wait(IMAGE_ID).status == "ready"
    paths = [request.url.path.rpartition("/")[2] for request in gateway.requests]
    assert paths == ["metadata", "events", "metadata", "metadata", "metadata"]


@pytest.mark.parametrize(
    "refused", [problem(429, "too_many_listeners"), problem(404, "no_such_page"), httpx.ReadError("")]
)
def test_waiting_polls_where_there_is_no_stream(
    refused: httpx.Response | Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagepipe_client.calls.POLL_SECONDS", 0.001)
    reads = iter([EXAMPLE, EXAMPLE, READY])

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return httpx.Response(200, json=next(reads))
        if isinstance(refused, Exception):
            raise refused
        return refused

    assert Gateway(answer).client().wait(IMAGE_ID).status == "ready"


def test_waiting_has_an_end() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            raise httpx.ReadTimeout("silent")
        return httpx.Response(200, json=EXAMPLE)

    with pytest.raises(WaitTimedOut) as ended:
        Gateway(answer).client().wait(IMAGE_ID, 0.05)
    assert ended.value.image.id == IMAGE_ID


def test_the_position_is_that_of_the_first_block() -> None:
    gateway = Gateway(httpx.ConnectError("refused"), stream(": hello", "id: p5\nretry: 3000", event(6)))
    assert gateway.client().events_position() == "p5"


def test_the_async_client_does_the_same() -> None:
    gateway = Gateway(
        httpx.ReadError("lost"),
        httpx.Response(202, json=EXAMPLE),
        httpx.Response(200, json=READY),
        stream("id: p0", event(1)),
    )

    async def work() -> tuple[Image, Image, Event | Resync]:
        async with gateway.async_client() as client:
            uploaded = await client.upload(b"bytes")
            return uploaded, await client.wait(uploaded), await anext(client.events())

    uploaded, ready, first = asyncio.run(work())
    assert (uploaded.status, ready.status) == ("processing", "ready")
    assert isinstance(first, Event)
    assert first.position == "p1"
    assert gateway.requests[0].headers["Idempotency-Key"] == gateway.requests[1].headers["Idempotency-Key"]


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Client) - {"close"} == public(AsyncClient) - {"aclose"}

"""The calls of the API as steps: what each sends, and what it makes of the response."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace as with_fields
from itertools import count
from typing import Any
from uuid import uuid4

import httpx

from imagepipe_client.documents import Event, Image, Resync, Snapshot, TemporaryKeys
from imagepipe_client.errors import Problem, WaitTimedOut, problem_from
from imagepipe_client.event_stream import SILENCE_SECONDS, Parser, current_position, follow, opened
from imagepipe_client.files import File, form
from imagepipe_client.retrying import Retry, call, connection_failed
from imagepipe_client.signing import signed_put
from imagepipe_client.steps import Body, Emit, Progress, Request, Steps, Stream, next_chunk, pause

MAX_FILES = 20
"""Files that the gateway accepts in one request (MAX_FILES_PER_REQUEST)."""
PAGE_SIZE = 100
POLL_SECONDS = 1.0
LAG_PAUSES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4)
"""Seconds between reads of a document after an event: the document may show the event some milliseconds later."""

OwnerPair = tuple[str, str]


def _owner_params(owner: OwnerPair | None) -> tuple[tuple[str, str], ...]:
    return (("owner_type", owner[0]), ("owner_id", owner[1])) if owner else ()


def _key_header(key: str | None) -> dict[str, str]:
    """One key for all attempts of a request, so that it takes effect once."""
    return {"Idempotency-Key": key or str(uuid4())}


def _send_files(
    method: str,
    target: str,
    files: Sequence[File],
    owner: OwnerPair | None,
    key: str | None,
    progress: Progress | None,
) -> Request:
    headers, body = form(files, progress)
    return Request(method, target, _owner_params(owner), {**headers, **_key_header(key)}, body)


def _if_match(request: Request, version: str | None) -> Request:
    """The request on condition that the image has this version."""
    return with_fields(request, headers={**request.headers, "If-Match": f'"{version}"'}) if version else request


def upload(
    file: File, owner: OwnerPair | None, key: str | None, progress: Progress | None, retry: Retry
) -> Steps[Image]:
    """Upload one file."""
    response = yield from call(_send_files("POST", "/images", [file], owner, key, progress), retry)
    return Image.from_json(response.json())


def upload_many(
    files: Sequence[File], owner: OwnerPair | None, key: str | None, progress: Progress | None, retry: Retry
) -> Stream[Image | Problem]:
    """Upload files, 20 in each request; gives the image or the problem of each file, in order."""
    key = key or str(uuid4())
    for number in range(0, len(files), MAX_FILES):
        batch = files[number : number + MAX_FILES]
        if len(batch) == 1:
            yield from _one_of_many(batch[0], owner, f"{key}-{number}", progress, retry)
            continue
        request = _send_files("POST", "/images", batch, owner, f"{key}-{number}", progress)
        try:
            entries = (yield from call(request, retry)).json()["images"]
        except Problem as problem:
            if problem.code != "none_accepted":
                raise
            entries = problem.extra["images"]
        for entry in entries:
            yield Emit(_image_or_problem(entry))


def _one_of_many(
    file: File, owner: OwnerPair | None, key: str, progress: Progress | None, retry: Retry
) -> Stream[Image | Problem]:
    """The response to one file is not a list."""
    try:
        result: Image | Problem = yield from upload(file, owner, key, progress, retry)
    except Problem as problem:
        if problem.is_temporary:
            raise
        result = problem
    yield Emit(result)


def _image_or_problem(entry: dict[str, Any]) -> Image | Problem:
    return Image.from_json(entry) if "image_id" in entry else problem_from(entry)


def metadata(image_id: str, retry: Retry, *, fresh: bool = False) -> Steps[Image]:
    """The status document of an image; with `fresh` past the caches of the gateway."""
    headers = {"Cache-Control": "no-cache"} if fresh else {}
    response = yield from call(Request("GET", f"/images/{image_id}/metadata", headers=headers), retry)
    return Image.from_json(response.json())


def content(image_id: str, variant: str | None, retry: Retry) -> Steps[bytes]:
    """The bytes of the original, or of a variant."""
    params = (("variant", variant),) if variant else ()
    response = yield from call(Request("GET", f"/images/{image_id}", params), retry)
    return response.content


def images(owner: OwnerPair | None, page_size: int, retry: Retry) -> Stream[Image]:
    """Every image of an owner, or of all, newest first: follows the cursors in `Link`."""
    request: Request | None = Request("GET", "/images", (*_owner_params(owner), ("limit", str(page_size))))
    while request:
        response = yield from call(request, retry)
        for document in response.json():
            yield Emit(Image.from_json(document))
        request = _next_page(response)


def _next_page(response: httpx.Response) -> Request | None:
    following = response.links.get("next")
    return Request("GET", following["url"]) if following else None


def snapshot(owner: OwnerPair | None, page_size: int, retry: Retry) -> Steps[Snapshot]:
    """The whole list, with the position of its first page: that one was read first, so its events come after it."""
    request: Request | None = Request(
        "GET", "/images", (*_owner_params(owner), ("limit", str(page_size))), {"Cache-Control": "no-cache"}
    )
    found: list[Image] = []
    position: str | None = None
    while request:
        response = yield from call(request, retry)
        if not found and (monitor := response.links.get("monitor")):
            position = httpx.URL(monitor["url"]).params.get("last_event_id")
        found += [Image.from_json(document) for document in response.json()]
        request = _next_page(response)
    return Snapshot(found, position)


def replace(
    image_id: str, file: File, if_match: str | None, key: str | None, progress: Progress | None, retry: Retry
) -> Steps[Image]:
    """Give an image new bytes."""
    request = _send_files("PUT", f"/images/{image_id}", [file], None, key, progress)
    response = yield from call(_if_match(request, if_match), retry)
    return Image.from_json(response.json())


def replace_all(
    files: Sequence[File], owner: OwnerPair, key: str | None, progress: Progress | None, retry: Retry
) -> Steps[list[Image]]:
    """Make the owner's images exactly these files."""
    response = yield from call(_send_files("PUT", "/images", files, owner, key, progress), retry)
    return [Image.from_json(document) for document in response.json()["images"]]


def delete(image_id: str, if_match: str | None, retry: Retry) -> Steps[None]:
    """Delete an image."""
    request = _if_match(Request("DELETE", f"/images/{image_id}"), if_match)
    yield from call(request, retry, repeated_404_is_done=True)


def delete_by_url(url: str, retry: Retry) -> Steps[None]:
    """Delete the image whose original has this URL."""
    yield from call(Request("DELETE", "/images", (("url", url),)), retry, repeated_404_is_done=True)


def clear(owner: OwnerPair, retry: Retry) -> Steps[None]:
    """Delete every image of an owner."""
    yield from call(Request("DELETE", "/images", _owner_params(owner)), retry)


def temporary_keys(owner: OwnerPair, seconds: int | None, retry: Retry) -> Steps[TemporaryKeys]:
    """S3 keys for uploads of this owner."""
    duration = (("duration", str(seconds)),) if seconds is not None else ()
    response = yield from call(Request("POST", "/credentials", (*_owner_params(owner), *duration)), retry)
    return TemporaryKeys.from_json(response.json())


def upload_directly(
    file: File, owner: OwnerPair, keys: TemporaryKeys | None, progress: Progress | None, retry: Retry
) -> Steps[Image]:
    """Put a file into the bucket with temporary keys, then have the gateway make an image of it."""
    if keys is None:
        keys = yield from temporary_keys(owner, None, retry)
    # Its own folder: two files of one name do not overwrite each other.
    key = f"{keys.prefix}{uuid4()}/{file.name}"
    yield from call(signed_put(keys, key, file.content, progress), retry)
    return (yield from ingest(key, owner, retry))


def ingest(key: str, owner: OwnerPair, retry: Retry) -> Steps[Image]:
    """Make an image of an object in `incoming/`. Repeated for the same object, it gives the same image."""
    document = {"incoming": key, "owner_type": owner[0], "owner_id": owner[1]}
    body = Body(json.dumps(document).encode())
    request = Request("POST", "/images", headers={"Content-Type": "application/json"}, body=body)
    response = yield from call(request, retry)
    return Image.from_json(response.json())


def wait(image_id: str, seconds: float, retry: Retry, clock: Callable[[], float] = time.monotonic) -> Steps[Image]:
    """The image once it is ready or failed: by its events, and by polling where no stream can be had.

    Raises WaitTimedOut after `seconds`.
    """
    deadline = clock() + seconds
    image = yield from metadata(image_id, retry, fresh=True)
    while image.status == "processing":
        left = deadline - clock()
        if left <= 0:
            raise WaitTimedOut(image, seconds)
        image = yield from _watch(image, min(left, SILENCE_SECONDS), deadline, retry, clock)
        if image.status == "processing":
            yield from pause(min(POLL_SECONDS, max(deadline - clock(), 0.0)))
            image = yield from metadata(image_id, retry, fresh=True)
    return image


def _watch(
    image: Image, read_timeout: float, deadline: float, retry: Retry, clock: Callable[[], float]
) -> Steps[Image]:
    """The image after its events, while the stream lasts; the latest document if there is no stream, or time is up."""
    try:
        yield from opened(Request("GET", f"/images/{image.id}/events"), read_timeout)
    except (httpx.TransportError, Problem):
        return image
    # Read after the stream was opened: an event in between is in the document or in the stream.
    image = yield from metadata(image.id, retry, fresh=True)
    parser = Parser()
    # The gateway sends something every 15 seconds, so the time-out of each read alone could pass the deadline.
    while image.status == "processing" and clock() + read_timeout <= deadline + POLL_SECONDS:
        try:
            chunk = yield from next_chunk()
        except httpx.TransportError:
            break
        if chunk is None:
            break
        if any(message.data is not None for message in parser.feed(chunk)):
            image = yield from _catch_up(image, retry)
    return image


def _catch_up(image: Image, retry: Retry) -> Steps[Image]:
    """The document, read again for a second until it shows the event."""
    for seconds in LAG_PAUSES:
        yield from pause(seconds)
        image = yield from metadata(image.id, retry, fresh=True)
        if image.status != "processing":
            break
    return image


def events(
    owners: Sequence[OwnerPair],
    types: Sequence[str],
    image_id: str | None,
    position: str | None,
    retry: Retry,
) -> Stream[Event | Resync]:
    """Live events: of all images, of some owners and types, or of one image."""
    return follow(_events_request(owners, types, image_id), retry, position)


def _events_request(owners: Sequence[OwnerPair], types: Sequence[str], image_id: str | None) -> Request:
    if image_id is not None:
        return Request("GET", f"/images/{image_id}/events")
    selected = [pair for owner in owners for pair in _owner_params(owner)]
    return Request("GET", "/events", (*selected, *(("type", each) for each in types)))


def events_position(retry: Retry) -> Steps[str]:
    """The position of all streams now. Raises Problem and ConnectionFailed."""
    for attempt in count(1):
        try:
            return (yield from current_position(Request("GET", "/events")))
        except httpx.TransportError as error:
            if attempt >= retry.attempts:
                raise connection_failed(error) from error
            yield from pause(retry.pause(attempt))
        except Problem as problem:
            if not problem.is_temporary or attempt >= retry.attempts:
                raise
            yield from pause(retry.pause(attempt, problem.retry_after))
    raise AssertionError("count never ends")

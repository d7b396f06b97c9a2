"""Clients of the fault suite: uploads, replacements, deletes and owner clears on many owners, each recorded.

Each client changes only images that it uploaded itself, one request after the other; clears apply to every client's.
Every picture is unique, so its checksum identifies the operation that sent it.
"""

import asyncio
import hashlib
import io
import itertools
import random
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import httpx
from PIL import Image

from tests.faults.history import Kind, Operation, Result

REQUEST_TIMEOUT = 25.0
"""Seconds; longer than the gateway's own limit on a write to Kafka."""
UNRENDERABLE_SHARE = 0.05
KINDS = (Kind.UPLOAD, Kind.REPLACE, Kind.DELETE, Kind.CLEAR)
WEIGHTS = (60, 22, 14, 4)


class Pictures:
    """What clients send. The nemesis decides from its thread when no replacement can be rendered."""

    def __init__(self) -> None:
        self._all_failing = False

    @contextmanager
    def all_failing(self) -> Iterator[None]:
        """For the length of the block no replacement can be rendered."""
        self._all_failing = True
        try:
            yield
        finally:
            self._all_failing = False

    def are_renderable(self, rng: random.Random, kind: Kind) -> bool:
        """Whether the next picture that is sent for this kind of operation can be rendered."""
        if kind is Kind.REPLACE and self._all_failing:
            return False
        return rng.random() >= UNRENDERABLE_SHARE


@dataclass
class Client:
    """One sequential client. `mine` maps the ids it may change to their owners."""

    name: str
    base_url: str
    rng: random.Random
    owners: tuple[str, ...]
    history: list[Operation]
    pictures: Pictures
    mine: dict[str, str] = field(default_factory=dict)

    async def run(self, until: float, pause: float) -> None:
        """Send one request after the other until the monotonic time `until`, `pause` seconds apart on average."""
        async with httpx.AsyncClient(base_url=self.base_url, timeout=REQUEST_TIMEOUT) as http:
            while time.monotonic() < until:
                await self._step(http)
                await asyncio.sleep(self.rng.uniform(0, 2 * pause))

    async def _step(self, http: httpx.AsyncClient) -> None:
        kind = self.rng.choices(KINDS, WEIGHTS)[0]
        if kind is Kind.UPLOAD or (kind is not Kind.CLEAR and not self.mine):
            await self._upload(http)
        elif kind is Kind.CLEAR:
            owner = self.rng.choice(self.owners)
            await self._record(http, Kind.CLEAR, owner, "DELETE", f"/images?{_selector(owner)}")
        else:
            image_id = self.rng.choice(list(self.mine))
            await (self._replace if kind is Kind.REPLACE else self._delete)(http, image_id)

    async def _upload(self, http: httpx.AsyncClient) -> None:
        owner = self.rng.choice(self.owners)
        renderable = self.pictures.are_renderable(self.rng, Kind.UPLOAD)
        data = unique_picture(self.rng, renderable)
        headers = {"Idempotency-Key": str(uuid4())} if self.rng.random() < 0.5 else {}
        operation = await self._record(
            http, Kind.UPLOAD, owner, "POST", f"/images?{_selector(owner)}", data, headers, renderable=renderable
        )
        if operation.image_id:
            self.mine[operation.image_id] = owner

    async def _replace(self, http: httpx.AsyncClient, image_id: str) -> None:
        renderable = self.pictures.are_renderable(self.rng, Kind.REPLACE)
        data = unique_picture(self.rng, renderable)
        operation = await self._record(
            http,
            Kind.REPLACE,
            self.mine[image_id],
            "PUT",
            f"/images/{image_id}",
            data,
            image_id=image_id,
            renderable=renderable,
        )
        if operation.result is Result.REFUSED:  # another client cleared the owner
            self.mine.pop(image_id, None)

    async def _delete(self, http: httpx.AsyncClient, image_id: str) -> None:
        owner = self.mine.pop(image_id)
        await self._record(http, Kind.DELETE, owner, "DELETE", f"/images/{image_id}", image_id=image_id)

    async def _record(
        self,
        http: httpx.AsyncClient,
        kind: Kind,
        owner: str,
        method: str,
        path: str,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        image_id: str | None = None,
        renderable: bool = True,
    ) -> Operation:
        started = time.monotonic()
        result, answered_id = await self._send(http, method, path, data, headers or {})
        operation = Operation(
            kind,
            owner,
            result,
            started,
            time.monotonic(),
            image_id=answered_id or image_id,
            sha256=hashlib.sha256(data).hexdigest() if data else None,
            renderable=renderable,
        )
        self.history.append(operation)
        return operation

    async def _send(
        self, http: httpx.AsyncClient, method: str, path: str, data: bytes | None, headers: dict[str, str]
    ) -> tuple[Result, str | None]:
        """Send, and again under the same Idempotency-Key if there is one, until the outcome is known."""
        attempts = 6 if headers else 1
        sent = False
        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(1 + attempt)
            files = {"image": ("picture.png", data, "image/png")} if data else None
            try:
                answer = await http.request(method, path, files=files, headers=headers)
            except httpx.ConnectError:
                continue
            except httpx.TransportError:
                sent = True
                continue
            if answer.is_success:
                body = answer.json() if answer.content else {}
                return Result.OK, body.get("image_id") if kind_has_id(method) else None
            if answer.status_code in (409, 429):
                continue
            if answer.status_code < 500:
                return Result.REFUSED, None
            sent = True
        return (Result.UNKNOWN if sent else Result.REFUSED), None


def kind_has_id(method: str) -> bool:
    """Whether the answer to this method is an image's document."""
    return method == "POST"


def _selector(owner: str) -> str:
    owner_type, _, owner_id = owner.partition(":")
    return str(httpx.QueryParams({"owner_type": owner_type, "owner_id": owner_id}))


def unique_picture(rng: random.Random, renderable: bool = True) -> bytes:
    """A small unique PNG. If it is not renderable, only a decoder sees that its pixels are damaged or too few."""
    picture = Image.frombytes("RGB", (24, 18), rng.randbytes(24 * 18 * 3))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    data = buffer.getvalue()
    if renderable:
        return data
    return _with_pixels(
        data,
        (lambda pixels: pixels[:-200])
        if rng.random() < 0.5
        else (lambda pixels: pixels[:40] + bytes(200) + pixels[240:]),
    )


def _with_pixels(png: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """A PNG whose compressed pixels are changed and its checksums right."""
    kind = png.index(b"IDAT")
    length = int.from_bytes(png[kind - 4 : kind])
    pixels = change(png[kind + 4 : kind + 4 + length])
    checksum = zlib.crc32(b"IDAT" + pixels)
    chunk = len(pixels).to_bytes(4) + b"IDAT" + pixels + checksum.to_bytes(4)
    return png[: kind - 4] + chunk + png[kind + 8 + length :]


async def run_clients(
    gateways: Sequence[str],
    seed: int,
    seconds: float,
    pictures: Pictures,
    *,
    clients: int = 24,
    owners: int = 40,
    pause: float = 0.15,
) -> list[Operation]:
    """Run the workload, clients taking turns at the gateways; every client's history, in no particular order."""
    history: list[Operation] = []
    names = tuple(f"user:{seed}-{number}" for number in range(owners))
    until = time.monotonic() + seconds
    runs = [
        Client(f"client-{number}", gateway, random.Random(f"{seed}/{number}"), names, history, pictures).run(
            until, pause
        )
        for number, gateway in zip(range(clients), itertools.cycle(gateways), strict=False)
    ]
    await asyncio.gather(*runs)
    return history

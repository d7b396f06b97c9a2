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
BATCHES, BATCH_WEIGHTS = (1, 4, 8), (5, 3, 2)
"""Files in one upload."""
KINDS = (Kind.UPLOAD, Kind.REPLACE, Kind.DELETE, Kind.CLEAR)
WEIGHTS = (60, 22, 14, 4)


@dataclass(frozen=True)
class Picture:
    """A file, and whether a decoder can read it."""

    data: bytes
    renderable: bool


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
        pictures = [self._picture(Kind.UPLOAD) for _ in range(self.rng.choices(BATCHES, BATCH_WEIGHTS)[0])]
        headers = {"Idempotency-Key": str(uuid4())} if self.rng.random() < 0.5 else {}
        path = f"/images?{_selector(owner)}"
        for operation in await self._record(http, Kind.UPLOAD, owner, "POST", path, pictures, headers):
            if operation.image_id:
                self.mine[operation.image_id] = owner

    async def _replace(self, http: httpx.AsyncClient, image_id: str) -> None:
        pictures, path = [self._picture(Kind.REPLACE)], f"/images/{image_id}"
        [operation] = await self._record(
            http, Kind.REPLACE, self.mine[image_id], "PUT", path, pictures, image_id=image_id
        )
        if operation.result is Result.REFUSED:  # another client cleared the owner
            self.mine.pop(image_id, None)

    async def _delete(self, http: httpx.AsyncClient, image_id: str) -> None:
        owner = self.mine.pop(image_id)
        await self._record(http, Kind.DELETE, owner, "DELETE", f"/images/{image_id}", image_id=image_id)

    def _picture(self, kind: Kind) -> Picture:
        renderable = self.pictures.are_renderable(self.rng, kind)
        return Picture(unique_picture(self.rng, renderable), renderable)

    async def _record(
        self,
        http: httpx.AsyncClient,
        kind: Kind,
        owner: str,
        method: str,
        path: str,
        pictures: Sequence[Picture] = (),
        headers: dict[str, str] | None = None,
        *,
        image_id: str | None = None,
    ) -> list[Operation]:
        """Send the request; one operation for each picture, or one if the request has none."""
        started = time.monotonic()
        result, ids = await self._send(http, method, path, pictures, headers or {})
        ended = time.monotonic()
        sent: Sequence[Picture | None] = pictures or [None]
        operations = [
            Operation(
                kind,
                owner,
                # A file of an acknowledged request that got no id was refused.
                Result.REFUSED if result is Result.OK and kind is Kind.UPLOAD and found is None else result,
                started,
                ended,
                image_id=found or image_id,
                sha256=hashlib.sha256(picture.data).hexdigest() if picture else None,
                renderable=picture is None or picture.renderable,
            )
            for picture, found in itertools.zip_longest(sent, ids)
        ]
        self.history.extend(operations)
        return operations

    async def _send(
        self,
        http: httpx.AsyncClient,
        method: str,
        path: str,
        pictures: Sequence[Picture],
        headers: dict[str, str],
    ) -> tuple[Result, list[str | None]]:
        """Send, and again under the same Idempotency-Key if there is one, until the outcome is known.

        Returns the ids of the new images too, in the order of the pictures.
        """
        attempts = 6 if headers else 1
        sent = False
        files = [("image", ("picture.png", picture.data, "image/png")) for picture in pictures]
        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(1 + attempt)
            try:
                answer = await http.request(method, path, files=files or None, headers=headers)
            except httpx.ConnectError:
                continue
            except httpx.TransportError:
                sent = True
                continue
            if answer.is_success:
                return Result.OK, new_ids(answer) if method == "POST" else []
            if answer.status_code in (409, 429):
                continue
            if answer.status_code < 500:
                return Result.REFUSED, []
            sent = True
        return (Result.UNKNOWN if sent else Result.REFUSED), []


def new_ids(answer: httpx.Response) -> list[str | None]:
    """Id of the new image for each file of an upload; None for a file that was refused."""
    body = answer.json()
    return [document.get("image_id") for document in body.get("images", [body])]


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

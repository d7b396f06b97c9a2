"""The pipeline against what a user would run instead: imgproxy or thumbor, which make variants when they are requested.

Each round takes every photo from its original to the bytes of all four variants on the client's side. For imagepipe
that is: upload, wait until the variants are ready, download them. A peer reads the same originals, and has no log, no
index and no bucket to keep anything in. All have as many processes for images as imagepipe has render workers.
"""

import asyncio
import contextlib
import functools
import http.server
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import httpx
from PIL import Image

from bench.deployment import Deployment, deployment
from bench.figures import Aim, Figure, Rounds
from bench.photos import photo_files
from deploy.local.first_start import UV
from shared.concurrency import for_each
from shared.contract.ladder import Ladder
from shared.errors import ConfigurationError
from shared.observability.metrics import Service
from tests.support.engines.stack import Stack
from tests.support.ports import free_port
from tests.support.waiting import wait_for

AT_ONCE = 4
READY_SECONDS = 120.0
"""The first start of thumbor downloads it."""
MAX_PIXELS = 64_000_000
TIMEOUT = 120.0

Fetch = Callable[[Path], Awaitable[int]]
"""Takes a photo from its original to all its variants; returns the bytes of the variants."""


@dataclass(frozen=True)
class Result:
    """One round: photos per second, and the bytes of all variants."""

    rate: float
    size: int


async def measure(
    stack: Stack, rounds: Rounds, photos: Path, imgproxy: str | None, source: str | None, thumbor: bool
) -> None:
    """Compare with the peers that are wanted: imgproxy at its URL, and thumbor, which is started.

    `source` is the URL of the directory with the photos, as imgproxy reaches it; None if it reaches this machine.
    """
    files = photo_files(photos)
    async with AsyncExitStack() as running:
        made = running.enter_context(deployment(stack, *Service))
        http = await running.enter_async_context(httpx.AsyncClient(timeout=TIMEOUT, trust_env=False))
        contestants = {"imagepipe": imagepipe(made, http)}
        if imgproxy is not None:
            place = source or running.enter_context(served(photos))
            contestants["imgproxy"] = variants_at(http, functools.partial(imgproxy_urls, imgproxy.rstrip("/"), place))
        if thumbor:
            url = running.enter_context(thumbor_server(photos, stack.settings.render_workers))
            contestants["thumbor"] = variants_at(http, functools.partial(thumbor_urls, url))
        await compare(contestants, files, rounds)


async def compare(contestants: dict[str, Fetch], files: Sequence[Path], rounds: Rounds) -> None:
    """Report imagepipe against each peer."""
    for fetch in contestants.values():
        await fetch(files[0])
    measures = [functools.partial(run, fetch, files) for fetch in contestants.values()]
    own, *others = await rounds.in_turn(*measures, warm_up=False)
    for name, results in zip(list(contestants)[1:], others, strict=True):
        parts = {"imagepipe MB": own[0].size / 1e6, f"{name} MB": results[0].size / 1e6}
        rates = [[each.rate for each in found] for found in (own, results)]
        rounds.report(
            Figure(
                f"{len(files)} photos, all variants", "images/s", name, rates[0], rates[1], Aim("at least", 0.9), parts
            )
        )


async def run(fetch: Fetch, files: Sequence[Path]) -> Result:
    """One round over all photos."""
    sizes: list[int] = []

    async def one(file: Path) -> None:
        sizes.append(await fetch(file))

    started = time.perf_counter()
    await for_each(files, one, AT_ONCE)
    return Result(len(files) / (time.perf_counter() - started), sum(sizes))


def imagepipe(running: Deployment, http: httpx.AsyncClient) -> Fetch:
    """Upload, wait, download."""
    url = f"{running.base_url}/images?owner_type=bench&owner_id={uuid4().hex}"

    async def fetch(file: Path) -> int:
        data = await asyncio.to_thread(file.read_bytes)
        response = await http.post(url, files={"image": (file.name, data)}, headers={"Prefer": "wait=30"})
        document = response.raise_for_status().json()
        if document["status"] != "ready":
            raise RuntimeError(f"{file}: {document}")
        return await _download(http, [variant["url"] for variant in document["variants"]])

    return fetch


def variants_at(http: httpx.AsyncClient, urls_of: Callable[[Path], list[str]]) -> Fetch:
    """Download the variants of a photo from a server that makes them at once."""

    async def fetch(file: Path) -> int:
        return await _download(http, await asyncio.to_thread(urls_of, file))

    return fetch


async def _download(http: httpx.AsyncClient, urls: Sequence[str]) -> int:
    responses = [await http.get(url) for url in urls]
    return sum(len(response.raise_for_status().content) for response in responses)


def _sizes(file: Path) -> list[tuple[int, int]]:
    """Width and quality of each variant of this photo, as the ladder has them; the first is the full size."""
    ladder = Ladder()
    with Image.open(file) as image:
        # The four orientations above 4 swap the sides.
        width = image.height if image.getexif().get(0x0112, 1) > 4 else image.width
    return [(width, ladder.full_quality), *((rung.width_for(width), rung.quality) for rung in ladder.rungs)]


def imgproxy_urls(base: str, source: str, file: Path) -> list[str]:
    """Unsigned URLs of imgproxy. `source` is the URL of the directory with the photos, as imgproxy reaches it."""
    original = quote(f"{source}/{quote(file.name)}", safe=":/")
    return [f"{base}/insecure/rs:fit:{width}:0/q:{quality}/plain/{original}@webp" for width, quality in _sizes(file)]


def thumbor_urls(base: str, file: Path) -> list[str]:
    """Unsigned URLs of thumbor."""
    return [
        f"{base}/unsafe/{width}x0/filters:format(webp):quality({quality})/{quote(file.name)}"
        for width, quality in _sizes(file)
    ]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log line for each."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named so by the base class
        """Log nothing."""


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """The URL of a file server on this machine, until the block ends."""
    handler = functools.partial(_Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def thumbor_server(photos: Path, workers: int) -> Iterator[str]:
    """The URL of thumbor from PyPI, which reads the photos from this directory and stores nothing."""
    uv = shutil.which("uv") or str(UV)
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "thumbor.conf"
        config.write_text(
            f"LOADER = 'thumbor.loaders.file_loader'\nFILE_LOADER_ROOT_PATH = {str(photos.absolute())!r}\n"
            "STORAGE = 'thumbor.storages.no_storage'\nALLOW_UNSAFE_URL = True\n"
            f"RESPECT_ORIENTATION = True\nMAX_PIXELS = {MAX_PIXELS}\n"
        )
        argv = [uv, "tool", "run", "--from", "thumbor", "thumbor", "-i", "127.0.0.1", "-p", str(port)]
        argv += ["-c", str(config), "--processes", str(workers)]
        log = Path(directory) / "thumbor.log"
        with log.open("wb") as output:
            server = subprocess.Popen(argv, stdout=output, stderr=output, start_new_session=True)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: _answers(server, f"{url}/healthcheck", log), READY_SECONDS, "thumbor answers")
            yield url
        finally:
            with contextlib.suppress(ProcessLookupError):
                # uv, thumbor and its processes are one session.
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(10)


def _answers(server: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    if server.poll() is not None:
        raise ConfigurationError(f"thumbor ended: {log.read_text()[-500:]}")
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, trust_env=False).is_success
    return False

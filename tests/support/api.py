"""What tests of the REST surface share: a client of a running gateway, and gateways of a test's own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from shared.settings import Settings
from tests.support.images import encode, photo
from tests.support.processes.processor import environment
from tests.support.waiting import Stopwatch

READY_SECONDS = 60.0
PNG = encode(photo(40, 30), "PNG")
JPEG = encode(photo(320, 200), "JPEG")


def form(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    """A multipart form of named files."""
    return [("image", file) for file in files]


class Api(httpx.Client):
    """A client of one gateway."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url=base_url, timeout=60)

    def upload(self, data: bytes = JPEG, name: str = "photo.jpg", **owner: str) -> dict[str, Any]:
        """The document of a file that must be accepted."""
        answer = self.post("/images", params=owner, files=form((name, data)))
        assert answer.status_code == 202, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def document(self, image_id: str) -> dict[str, Any] | None:
        """The status document as it is now; None for 404."""
        answer = self.get(f"/images/{image_id}/metadata", headers={"Cache-Control": "no-cache"})
        if answer.status_code == 404:
            return None
        document: dict[str, Any] = answer.raise_for_status().json()
        return document

    def settled(self, image_id: str, accept: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
        """The document once it is not processing (or as `accept` says)."""
        done = accept or (lambda found: found["status"] != "processing")
        watch = Stopwatch()
        while watch.seconds() < READY_SECONDS:
            found = self.document(image_id)
            if found is not None and done(found):
                return found
            time.sleep(0.2)
        raise AssertionError(f"image {image_id} was not settled within {READY_SECONDS:.0f} s")

    def ids_of(self, **owner: str) -> list[str]:
        """Ids of an owner's images, newest first."""
        answer = self.get("/images", params=owner, headers={"Cache-Control": "no-cache"})
        return [image["image_id"] for image in answer.raise_for_status().json()]


def eventually(look: Callable[[], bool], what: str, seconds: float = READY_SECONDS) -> None:
    """Return once it is true."""
    watch = Stopwatch()
    while not look():
        assert watch.seconds() < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class GatewayProcess:
    """`python -m gateway` with a test's own settings."""

    def __init__(self, settings: Settings, log: Path) -> None:
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}"
        self.settings = settings.model_copy(
            update={
                "gateway_port": port,
                "gateway_internal_port": free_port(),
                "public_base_url": self.base_url,
                "log_format": "json",
            }
        )
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway"],
                env=os.environ | environment(self.settings),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def readiness(self) -> dict[str, Any]:
        """What /readyz says."""
        answer = httpx.get(f"http://127.0.0.1:{self.settings.gateway_internal_port}/readyz", timeout=20)
        found: dict[str, Any] = answer.json()
        return found

    def wait_up(self) -> None:
        """Wait until the public port answers."""
        eventually(self._answers, "the gateway answers")

    def wait_connected(self, *engines: str) -> None:
        """Wait until these engines (all by default) can be used: it answers before, with 503 to what needs them."""

        def connected() -> bool:
            checks = self.readiness()["checks"]
            return all(checks[engine] == "ok" for engine in engines or checks)

        eventually(connected, f"the gateway is connected to {', '.join(engines) or 'everything'}")

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()[-3000:]
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.base_url}/problems").status_code == 200
        return False

    def signal(self, number: signal.Signals) -> None:
        """Signal the process."""
        self._process.send_signal(number)

    def wait_ended(self, seconds: float = 40) -> int:
        """The exit code, once it has ended."""
        return self._process.wait(seconds)

    def end(self) -> None:
        """End it whatever it is doing."""
        self._process.kill()
        self._process.wait(10)


@contextmanager
def own_gateway(settings: Settings, log: Path, **changes: Any) -> Iterator[GatewayProcess]:
    """A gateway with these settings changed, that answers."""
    gateway = GatewayProcess(settings.model_copy(update=changes), log)
    try:
        gateway.wait_up()
        yield gateway
    finally:
        gateway.end()

"""Gateway, processor and indexer are restarted one after another under load: no request fails, no command is lost."""

import itertools
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.support.api import PNG, Api, form
from tests.support.engines.stack import Stack
from tests.support.processes.gateway import GatewayProcess, own_gateway

OWNER = {"owner_type": "rolling", "owner_id": str(uuid4())}


class Traffic:
    """Uploads without a pause over two gateways. As a load balancer does, it skips an address that does not answer.

    Each upload has an Idempotency-Key, so that one whose connection broke can be sent again.
    """

    def __init__(self, addresses: list[str]) -> None:
        self.accepted: list[str] = []
        self.failed: list[str] = []
        self._addresses = itertools.cycle(addresses)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join(90)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self._upload(str(uuid4()))

    def _upload(self, key: str) -> None:
        for _ in range(6):
            # A connection of its own for each request, as towards a service whose members come and go.
            try:
                answer = httpx.post(
                    f"{next(self._addresses)}/images",
                    params=OWNER,
                    files=form((f"{key}.png", PNG)),
                    headers={"Idempotency-Key": key},
                    timeout=30,
                )
            except httpx.TransportError:
                continue
            if answer.status_code == 202:
                self.accepted.append(answer.json()["image_id"])
            else:
                self.failed.append(f"{answer.status_code} {answer.text}")
            return
        self.failed.append("no gateway answered")


@pytest.fixture
def second_gateway(stack: Stack, tmp_path: Path) -> Iterator[GatewayProcess]:
    with own_gateway(stack.settings, tmp_path / "gateway.log") as gateway:
        gateway.wait_connected()
        yield gateway


def test_a_rolling_restart_fails_no_request_and_loses_no_command(stack: Stack, second_gateway: GatewayProcess) -> None:
    with Traffic([stack.base_url, second_gateway.base_url]) as traffic:
        for part in ("gateway", "processor", "indexer"):
            pid = stack.kill(part, signal.SIGTERM)
            stack.wait_restarted(part, pid)
        second_gateway.signal(signal.SIGTERM)
        assert second_gateway.wait_ended() == 0
    assert traffic.failed == []
    assert len(traffic.accepted) > 10, "there were too few uploads, so the test proves nothing"
    with Api(stack.base_url) as api:
        for image_id in traffic.accepted:
            assert api.settled(image_id)["status"] == "ready"
        listed = api.get("/images", params={**OWNER, "limit": 500}, headers={"Cache-Control": "no-cache"}).json()
    assert sorted(image["image_id"] for image in listed) == sorted(traffic.accepted)

"""Gateways of a test's own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from shared.observability.metrics import Service
from shared.settings import Settings
from tests.support.ports import free_port
from tests.support.processes.service import READY_SECONDS, ServiceProcess
from tests.support.waiting import wait_for


class GatewayProcess(ServiceProcess):
    """A gateway at `base_url`."""

    def __init__(self, settings: Settings, log: Path) -> None:
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}"
        public = {"gateway_port": port, "public_base_url": self.base_url}
        super().__init__(Service.GATEWAY, settings.model_copy(update=public), log)

    def checks(self) -> dict[str, str]:
        """The state of each engine, as /readyz reports it."""
        found: dict[str, str] = json.loads(self.get("readyz")[1])["checks"]
        return found

    def wait_up(self) -> None:
        """Wait until the public port answers. Requests that need an engine may still get 503."""
        wait_for(self._answers, READY_SECONDS, "the gateway answers")

    def wait_connected(self, *engines: str) -> None:
        """Wait until these engines can be used; all of them by default."""

        def connected() -> bool:
            checks = self.checks()
            return all(checks[engine] == "ok" for engine in engines or checks)

        wait_for(connected, READY_SECONDS, f"the gateway is connected to {', '.join(engines) or 'every engine'}")

    def _answers(self) -> bool:
        self.check_running()
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.base_url}/problems", trust_env=False).is_success
        return False


@contextmanager
def own_gateway(settings: Settings, log: Path, **changes: Any) -> Iterator[GatewayProcess]:
    """A gateway with these settings changed, once it answers."""
    gateway = GatewayProcess(settings.model_copy(update=changes), log)
    gateway.start()
    try:
        gateway.wait_up()
        yield gateway
    finally:
        gateway.end()

"""A service as a child process of the test, with its log in a file."""

import asyncio
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.observability.metrics import Service
from shared.settings import Settings
from tests.support.ports import free_port
from tests.support.processes.environment import environment
from tests.support.waiting import wait_for, wait_for_async

READY_SECONDS = 60.0
END_SECONDS = 40.0


class ServiceProcess:
    """`python -m <service>` with these settings, on an internal port of its own, logging JSON."""

    def __init__(self, service: Service, settings: Settings, log: Path) -> None:
        self.service = service
        self.port = free_port()
        self.settings = settings.model_copy(update={f"{service}_internal_port": self.port, "log_format": "json"})
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **changes: Any) -> None:
        """Start it, with these settings changed for this run."""
        variables = environment(self.settings.model_copy(update=changes))
        with self.log.open("ab") as output:
            argv = [sys.executable, "-m", str(self.service)]
            self._process = subprocess.Popen(argv, env=variables, stdout=output, stderr=subprocess.STDOUT)

    @property
    def pid(self) -> int:
        """Process id, once it was started."""
        return self._running().pid

    def signal(self, number: signal.Signals) -> None:
        """Signal the process."""
        self._running().send_signal(number)

    def wait_ended(self, seconds: float = END_SECONDS) -> int:
        """The exit code, once it has ended."""
        return self._running().wait(seconds)

    def end(self) -> None:
        """Kill it if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def get(self, route: str) -> tuple[int, str]:
        """Status (0 without an answer) and body of a route of the internal port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{route}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (urllib.error.URLError, OSError):
            return 0, ""

    def is_ready(self) -> bool:
        """Whether all its engines can be used. Fails if the process has ended."""
        self.check_running()
        return self.get("readyz")[0] == 200

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until all its engines can be used."""
        wait_for(self.is_ready, seconds, f"the {self.service} is ready")

    async def wait_ready_async(self, seconds: float = READY_SECONDS) -> None:
        """As `wait_ready`, while the event loop runs."""
        await wait_for_async(lambda: asyncio.to_thread(self.is_ready), seconds, f"the {self.service} is ready")

    def check_running(self) -> None:
        """Fail with the end of the log if the process has ended."""
        assert self._running().poll() is None, f"the {self.service} ended: {self.log.read_text()[-3000:]}"

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Entries of the log with this event."""
        entries = []
        for line in self.log.read_text().splitlines() if self.log.exists() else ():
            # SIGKILL leaves half a line, and so does an entry that is just being written.
            with suppress(ValueError):
                entry = json.loads(line)
                if entry.get("event") == event:
                    entries.append(entry)
        return entries

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"the {self.service} was not started"
        return self._process

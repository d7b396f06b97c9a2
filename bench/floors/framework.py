"""The floor of HTTP: FastAPI on uvicorn with httptools, which serves the same bytes and does nothing else.

`uvicorn bench.floors.framework:app` runs in a process of its own, which `bare_framework` starts. The environment names
the file with the bytes; the other settings are those of the services.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from fastapi import FastAPI, Request, Response
from starlette.responses import StreamingResponse

from shared.s3.store import s3_client
from shared.settings import Settings
from tests.support.ports import free_port
from tests.support.processes.environment import environment
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BODY_FILE = "BENCH_BODY_FILE"
ETAG = '"the-only-version"'
CHUNK = 64 * 1024
READY_SECONDS = 30.0

app = FastAPI(openapi_url=None)


@cache
def _body() -> bytes:
    return Path(os.environ[BODY_FILE]).read_bytes()


@cache
def _bucket() -> tuple["S3Client", str]:
    settings = Settings()
    return s3_client(settings), settings.s3_bucket


@app.get("/body")
async def body(request: Request) -> Response:
    """The bytes, or 304 for a client that has them."""
    if request.headers.get("if-none-match") == ETAG:
        return Response(status_code=304, headers={"ETag": ETAG})
    return Response(_body(), media_type="application/json", headers={"ETag": ETAG})


@app.get("/objects/{key:path}")
def stored(key: str) -> StreamingResponse:
    """An object of the bucket, streamed. It is a plain function, because boto3 blocks."""
    client, bucket = _bucket()
    found = client.get_object(Bucket=bucket, Key=key)
    headers = {"Content-Length": str(found["ContentLength"]), "ETag": found["ETag"]}
    return StreamingResponse(found["Body"].iter_chunks(CHUNK), headers=headers, media_type=found["ContentType"])


@contextmanager
def bare_framework(settings: Settings, body_file: Path, log: Path) -> Iterator[str]:
    """The URL of a server that serves this file at `/body` and the bucket at `/objects`, until the block ends."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "uvicorn", f"{__name__}:app", "--port", str(port), "--http", "httptools"]
    argv += ["--loop", "uvloop", "--no-access-log", "--log-level", "warning", "--lifespan", "off"]
    variables = environment(settings) | {BODY_FILE: str(body_file)}
    with log.open("wb") as output:
        server = subprocess.Popen(argv, env=variables, stdout=output, stderr=output)
    try:
        wait_for(lambda: _answers(f"{url}/body"), READY_SECONDS, "the bare framework answers")
        yield url
    finally:
        server.terminate()
        server.wait(10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False

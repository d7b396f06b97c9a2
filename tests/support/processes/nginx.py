"""A real nginx for the tests of deploy/nginx: Debian's, unprivileged where it can be, on a free port."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.ports import free_port
from tests.support.waiting import wait_for

TEMPLATE = Path(__file__).parents[3] / "deploy" / "nginx" / "imagepipe.conf.template"
MAIN = """
daemon off;
{user}
worker_processes 1;
pid {root}/nginx.pid;
error_log {root}/error.log warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    include {root}/imagepipe.conf;
}}
"""


def program() -> str:
    """The nginx to run. Without one the test is skipped with the command that installs it."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    return found


def rendered(values: dict[str, str]) -> str:
    """The template as envsubst would fill it in. Fails if its variables are not exactly these."""
    text = TEMPLATE.read_text()
    asked = set(re.findall(r"\$\{(\w+)\}", text))
    assert asked == set(values)
    return re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], text)


@contextmanager
def running_nginx(root: Path, origin: str) -> Iterator[str]:
    """nginx in front of `origin` (host:port); gives its base URL."""
    nginx, port = program(), free_port()
    values = {
        "IMAGEPIPE_LISTEN": f"127.0.0.1:{port}",
        "IMAGEPIPE_ORIGIN": origin,
        "IMAGEPIPE_RESOLVER": "127.0.0.1",
        "IMAGEPIPE_CACHE": str(root / "cache"),
        "IMAGEPIPE_CACHE_SIZE": "64m",
    }
    (root / "imagepipe.conf").write_text(rendered(values))
    (root / "nginx.conf").write_text(MAIN.format(root=root, user="user root;" if os.getuid() == 0 else ""))
    argv = [nginx, "-e", str(root / "error.log"), "-p", str(root), "-c", str(root / "nginx.conf")]
    checked = subprocess.run([*argv, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(argv)
    base_url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _answers(f"{base_url}/healthz"), 20, "nginx answers")
        yield base_url
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False

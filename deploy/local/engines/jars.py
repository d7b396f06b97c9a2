"""The jars of Kafka and Cassandra: locked by name and SHA-256, downloaded into the cache.

Standard library only: the first `make up` downloads the jars while uv downloads the Python packages. The lock files are
written by `deploy.local.engines.lock_jars`.
"""

import configparser
import hashlib
import http.client
import os
import ssl
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from deploy.local.cache import Cache
from deploy.local.downloads import Downloads
from deploy.local.errors import Interrupted, StackError

HERE = Path(__file__).parent
PARALLEL_DOWNLOADS = 6
CHUNK = 256 * 1024
TIMEOUT = 60
"""Seconds without a byte after which a download has failed."""
RETRY_PAUSES = (0.5, 2.0)
"""Seconds before the second and the third attempt: of 146 requests one met a name server that did not answer."""
MAVEN_CENTRAL = "https://repo1.maven.org/maven2"

SOURCES = {
    # Resolved apart from each other: in one go, jgo takes kafka-clients 3.9.1 and the broker ends with
    # NoSuchMethodError. The binding makes Kafka write its log (kafka_2.13 has none for its slf4j).
    "kafka": ("org.apache.kafka:kafka_2.13:4.2.0", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3"),
    "cassandra": ("org.apache.cassandra:cassandra-all:5.0.8",),
}

ENDPOINTS = {"kafka": "KAFKA_BOOTSTRAP_SERVERS", "cassandra": "CASSANDRA_CONTACT_POINTS"}
"""An engine whose variable is set is not started, so its jars are not needed."""


@dataclass(frozen=True)
class Jar:
    """One artifact of the Maven repository. `coordinate` is group:artifact:version, or that and :classifier."""

    coordinate: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """File name in the cache."""
        _, artifact, version, *classifier = self.coordinate.split(":")
        return "-".join((artifact, version, *classifier)) + ".jar"

    @property
    def path(self) -> str:
        """Path in a Maven repository."""
        group, artifact, version, *_ = self.coordinate.split(":")
        return f"{group.replace('.', '/')}/{artifact}/{version}/{self.name}"


def read_lock(engine: str) -> tuple[Jar, ...]:
    """The jars of an engine, from its lock file."""
    lines = (HERE / f"{engine}.jars").read_text().splitlines()
    fields = (line.split() for line in lines if line and not line.startswith("#"))
    return tuple(Jar(coordinate, int(size), sha256) for coordinate, size, sha256 in fields)


def fetch(engine: str, cache: Cache, downloads: Downloads, stop: threading.Event) -> Path:
    """Directory with the engine's jars, downloaded if need be. Raises StackError, or Interrupted once `stop` is set."""
    jars = read_lock(engine)
    total = sum(jar.size for jar in jars)
    digest = hashlib.sha256("".join(jar.sha256 for jar in jars).encode()).hexdigest()[:8]
    title = engine.capitalize()

    def build(draft: Path) -> None:
        downloads.start(title, total)
        _download_all(jars, draft, lambda count: downloads.receive(title, count), stop)
        downloads.finish(title)

    return cache.make(f"{engine}-{SOURCES[engine][0].rpartition(':')[2]}-{digest}", 2 * total, build)


def _download_all(jars: tuple[Jar, ...], target: Path, receive: Callable[[int], None], stop: threading.Event) -> None:
    url, opener = _repository(), _opener()
    # The largest first: a large jar that starts last would be waited for alone.
    by_size = sorted(jars, key=lambda jar: jar.size, reverse=True)

    def download(jar: Jar) -> None:
        content = _content_with_retries(opener, f"{url}/{jar.path}", receive, stop)
        if hashlib.sha256(content).hexdigest() != jar.sha256:
            raise StackError(
                f"{jar.coordinate} from {url} is not the file of the lock (its SHA-256 differs): a mirror serves "
                "another file, or the download was cut. Try again."
            )
        (target / jar.name).write_bytes(content)

    with ThreadPoolExecutor(PARALLEL_DOWNLOADS, thread_name_prefix="jars") as pool:
        for future in [pool.submit(download, jar) for jar in by_size]:
            try:
                future.result()
            except BaseException:
                stop.set()
                raise


def _content_with_retries(
    opener: urllib.request.OpenerDirector, url: str, receive: Callable[[int], None], stop: threading.Event
) -> bytes:
    for pause in (*RETRY_PAUSES, None):
        try:
            return _content(opener, url, receive, stop)
        except (OSError, http.client.HTTPException) as error:
            if pause is None or stop.wait(pause):
                raise StackError(
                    f"The Maven repository cannot be reached or lacks a file ({url}: {error}). Check the network and "
                    "HTTPS_PROXY, or name a mirror in ~/.config/jgo.conf ([repositories], central = https://...), and "
                    "try again."
                ) from error
    raise AssertionError("the last attempt returns or raises")


def _content(
    opener: urllib.request.OpenerDirector, url: str, receive: Callable[[int], None], stop: threading.Event
) -> bytes:
    content = bytearray()
    try:
        with opener.open(url, timeout=TIMEOUT) as answer:
            while chunk := answer.read(CHUNK):
                if stop.is_set():
                    raise Interrupted("Interrupted.")
                content += chunk
                receive(len(chunk))
    except (OSError, http.client.HTTPException):
        receive(-len(content))
        raise
    return bytes(content)


def _repository() -> str:
    """Maven Central, or the mirror that the user's jgo configuration names."""
    config = configparser.ConfigParser()
    config.read([Path.home() / ".jgorc", Path.home() / ".config" / "jgo.conf"])
    return config.get("repositories", "central", fallback=MAVEN_CENTRAL).rstrip("/")


def _opener() -> urllib.request.OpenerDirector:
    """Proxies come from the environment. One TLS context for all requests: to make one takes 30 ms of CPU."""
    context = ssl.create_default_context()
    if not context.get_ca_certs() and not os.environ.get("SSL_CERT_FILE"):
        _add_bundled_authorities(context)
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))


def _add_bundled_authorities(context: ssl.SSLContext) -> None:
    # Python from python.org finds no certificate authorities on macOS until the user installs them.
    for name in ("certifi", "pip._vendor.certifi"):
        try:
            bundle: Any = import_module(name)
        except ImportError:
            continue
        context.load_verify_locations(bundle.where())
        return

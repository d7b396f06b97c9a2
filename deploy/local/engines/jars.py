"""The jars of Kafka and Cassandra: resolved once with jgo, locked by name and SHA-256, downloaded into the cache.

`python -m deploy.local.engines.jars` resolves anew and rewrites the lock files, for a change of version. Starting a
stack reads only the lock: the same jars on every machine, and none of the hundreds of look-ups that resolving takes.
"""

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.cache import Cache
from deploy.local.errors import Interrupted, StackError
from deploy.local.reporting import Advance, OneTimeWork

HERE = Path(__file__).parent
PARALLEL_DOWNLOADS = 6
TIMEOUT = 60
"""Seconds without a byte after which a download has failed."""

SOURCES = {
    # Resolved apart from each other: in one go, jgo takes kafka-clients 3.9.1 and the broker ends with
    # NoSuchMethodError. The binding brings Kafka's log to life (kafka_2.13 has none for its slf4j).
    "kafka": ("org.apache.kafka:kafka_2.13:4.2.0", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3"),
    "cassandra": ("org.apache.cassandra:cassandra-all:5.0.8",),
}


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


def read_lock(engine: str) -> tuple[Jar, ...]:
    """The jars of an engine, from its lock file."""
    lines = (HERE / f"{engine}.jars").read_text().splitlines()
    fields = (line.split() for line in lines if line and not line.startswith("#"))
    return tuple(Jar(coordinate, int(size), sha256) for coordinate, size, sha256 in fields)


def fetch(engine: str, cache: Cache, work: OneTimeWork, stop: threading.Event) -> Path:
    """Directory with the engine's jars, downloaded if need be. Raises StackError, or Interrupted once `stop` is set."""
    jars = read_lock(engine)
    total = sum(jar.size for jar in jars)
    version = SOURCES[engine][0].rpartition(":")[2]
    digest = hashlib.sha256("".join(jar.sha256 for jar in jars).encode()).hexdigest()[:8]
    name = f"{engine}-{version}-{digest}"

    def build(draft: Path) -> None:
        with work.item(f"Download {engine.capitalize()} {version}", total) as advance:
            _download_all(jars, draft, advance, stop)

    return cache.make(name, 2 * total, build)


def _download_all(jars: tuple[Jar, ...], target: Path, advance: Advance, stop: threading.Event) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.m2-") as repository:
        context = _context(Path(repository), advance, stop)

        def download(jar: Jar) -> None:
            path = _artifact(context, jar.coordinate).resolve()
            if hashlib.sha256(path.read_bytes()).hexdigest() != jar.sha256:
                raise StackError(
                    f"{jar.coordinate} from the Maven repository is not the file that {target.name} was locked with "
                    f"(SHA-256 differs): a mirror serves something else, or the download was cut; try again."
                )
            path.rename(target / jar.name)

        with ThreadPoolExecutor(PARALLEL_DOWNLOADS, thread_name_prefix="jars") as pool:
            for future in [pool.submit(download, jar) for jar in jars]:
                try:
                    future.result()
                except (StackError, KeyboardInterrupt):
                    stop.set()
                    raise
                except (OSError, RuntimeError) as error:  # requests' errors are OSErrors, jgo's RuntimeErrors
                    stop.set()
                    raise StackError(
                        f"The Maven repository cannot be reached or lacks a file ({_short(error)}). Check the network "
                        f"and HTTPS_PROXY, or name a mirror in the [repositories] section of ~/.config/jgo.conf "
                        f"(central = https://...), and try again."
                    ) from error


def _context(repository: Path, advance: Advance, stop: threading.Event) -> Any:
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext, PythonResolver

    @contextmanager
    def progress(name: str, _size: int) -> Iterator[Any]:
        def update(count: int) -> None:
            if stop.is_set():
                raise Interrupted("interrupted")
            advance(count, name)

        yield update

    remotes = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    resolver = PythonResolver(progress_callback=progress)
    return MavenContext(resolver=resolver, repo_cache=repository, remote_repos=remotes, timeout=TIMEOUT)


def _artifact(context: Any, coordinate: str) -> Any:
    group, artifact, version, *classifier = coordinate.split(":")
    return context.project(group, artifact).at_version(version).artifact(*classifier)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def write_lock(engine: str) -> None:
    """Resolve the engine's coordinates with jgo, download all jars, and write the lock file."""
    found: dict[str, Jar] = {}
    with tempfile.TemporaryDirectory() as repository:
        context = _context(Path(repository), lambda _count, _name: None, threading.Event())
        for source in SOURCES[engine]:
            for artifact in _resolve(context, source):
                parts = (artifact.groupId, artifact.artifactId, artifact.version, artifact.classifier)
                coordinate = ":".join(part for part in parts if part)
                data = artifact.resolve().read_bytes()
                found[coordinate] = Jar(coordinate, len(data), hashlib.sha256(data).hexdigest())
    lines = [
        f"# Written by `python -m deploy.local.engines.jars` from {', '.join(SOURCES[engine])}: "
        "coordinate, bytes, SHA-256."
    ]
    lines += [
        f"{jar.coordinate} {jar.size} {jar.sha256}" for jar in sorted(found.values(), key=lambda jar: jar.coordinate)
    ]
    draft = HERE / f"{engine}.jars.draft"
    draft.write_text("\n".join(lines) + "\n")
    shutil.move(draft, HERE / f"{engine}.jars")


def _resolve(context: Any, source: str) -> list[Any]:
    from jgo.parse import Coordinate

    named, transitive = context.resolver.resolve([context.create_dependency(Coordinate.parse(source))])
    return [each.artifact for each in (*named, *(d for d in transitive if d.scope in ("compile", "runtime")))]


if __name__ == "__main__":
    for each in SOURCES:
        write_lock(each)

"""`python -m deploy.local.engines.lock_jars` resolves the engines' coordinates with jgo and rewrites the lock files.

For a change of version. A start reads only the lock: the same jars on every machine, and none of the hundreds of
requests that resolving takes.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from deploy.local.engines.jars import HERE, MAVEN_CENTRAL, SOURCES, TIMEOUT, Jar


def write_lock(engine: str) -> None:
    """Resolve the engine's coordinates, download all jars, and write the lock file."""
    found: dict[str, Jar] = {}
    with tempfile.TemporaryDirectory() as repository:
        context = _context(Path(repository))
        for source in SOURCES[engine]:
            for artifact in _resolve(context, source):
                parts = (artifact.groupId, artifact.artifactId, artifact.version, artifact.classifier)
                coordinate = ":".join(part for part in parts if part)
                data = artifact.resolve().read_bytes()
                found[coordinate] = Jar(coordinate, len(data), hashlib.sha256(data).hexdigest())
    lines = [
        f"# Written by `python -m deploy.local.engines.lock_jars` from {', '.join(SOURCES[engine])}: "
        "coordinate, bytes, SHA-256."
    ]
    lines += [
        f"{jar.coordinate} {jar.size} {jar.sha256}" for jar in sorted(found.values(), key=lambda jar: jar.coordinate)
    ]
    draft = HERE / f"{engine}.jars.draft"
    draft.write_text("\n".join(lines) + "\n")
    shutil.move(draft, HERE / f"{engine}.jars")


def _context(repository: Path) -> Any:
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext, PythonResolver

    remotes = {"central": MAVEN_CENTRAL, **GlobalSettings.load().repositories}
    return MavenContext(resolver=PythonResolver(), repo_cache=repository, remote_repos=remotes, timeout=TIMEOUT)


def _resolve(context: Any, source: str) -> list[Any]:
    from jgo.parse import Coordinate

    named, transitive = context.resolver.resolve([context.create_dependency(Coordinate.parse(source))])
    return [each.artifact for each in (*named, *(d for d in transitive if d.scope in ("compile", "runtime")))]


if __name__ == "__main__":
    for each in SOURCES:
        write_lock(each)

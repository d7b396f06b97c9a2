"""The command line of Kafka and Cassandra: a small JVM that starts fast."""

from pathlib import Path

from deploy.local.errors import StackError


def java_command(java: Path, heap_mb: int, classpath: Path, options: list[str], main: list[str]) -> tuple[str, ...]:
    """Command line of an engine. Serial GC and the first compiler only: less memory, and half the start time."""
    return (
        str(java), f"-Xms{heap_mb // 2}m", f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData", "-Dfile.encoding=UTF-8", "-Djava.net.preferIPv4Stack=true",
        *options, "-cp", f"{classpath}/*", *main,
    )  # fmt: skip


def only_jar(classpath: Path, prefix: str) -> Path:
    """The one jar whose name starts with `prefix`. Raises StackError when the cache was changed."""
    found = list(classpath.glob(f"{prefix}*.jar"))
    if len(found) != 1:
        raise StackError(
            f"{classpath} should hold one {prefix}*.jar: remove that directory, and the next start downloads it again."
        )
    return found[0]

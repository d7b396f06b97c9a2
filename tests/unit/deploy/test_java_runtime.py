"""The Java runtime gets an archive of its classes once, completely or not at all."""

import os
from pathlib import Path

import pytest

from deploy.local.engines.java_runtime import archive_classes


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

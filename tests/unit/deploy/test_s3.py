"""The build of the local stack's S3 server."""

import threading
from pathlib import Path

import pytest
from rich.console import Console

from deploy.local.cache import Cache
from deploy.local.engines import s3
from deploy.local.errors import StackError
from deploy.local.reporting import Reporter


def fake_go(directory: Path, script: str) -> Path:
    program = directory / "go" / "bin" / "go"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    return directory / "go"


def test_minio_is_built_once_without_leaving_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As Go does it: the module cache is read-only, and the program lands in GOBIN.
    script = 'mkdir -p "$GOPATH/m" && chmod 500 "$GOPATH/m" && echo "$@" && echo built > "$GOBIN/minio"'
    go = fake_go(tmp_path, script)
    monkeypatch.setattr(s3, "_go_root", lambda: go)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    cache = Cache(tmp_path / "cache")
    work = Reporter(Console(quiet=True))
    with work.one_time_work() as progress:
        program = s3.fetch(cache, progress, threading.Event())
    assert program.read_text() == "built\n"
    assert [path.name for path in program.parent.iterdir()] == ["minio"]


def test_failed_build_shows_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = fake_go(tmp_path, "echo downloading; echo no such host; exit 1")
    monkeypatch.setattr(s3, "_go_root", lambda: go)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with (
        Reporter(Console(quiet=True)).one_time_work() as progress,
        pytest.raises(StackError, match=r"GOPROXY[\s\S]*no such host"),
    ):
        s3.fetch(Cache(tmp_path / "cache"), progress, threading.Event())
    assert [path.name for path in (tmp_path / "cache").iterdir() if "draft" in path.name] == []

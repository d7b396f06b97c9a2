"""The example client against the running stack, as a user runs it."""

import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import JPEG, PNG
from tests.support.engines.stack import Stack
from tests.support.images import decode


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(JPEG)
    return path


def run(stack: Stack, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "client.example", "--base-url", stack.base_url, *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)


def documents(stack: Stack, *arguments: str | Path) -> list[dict[str, Any]]:
    done = run(stack, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_client_uploads_reads_replaces_and_deletes_an_image(stack: Stack, photo: Path, tmp_path: Path) -> None:
    owner = f"user:{secrets.token_hex(6)}"
    [uploaded] = documents(stack, "upload", photo, "--owner", owner)
    image_id = uploaded["image_id"]
    assert (uploaded["status"], len(uploaded["variants"])) == ("ready", 4)
    assert [image["image_id"] for image in documents(stack, "list", "--owner", owner)] == [image_id]

    fetched = run(stack, "fetch", image_id, tmp_path / "out")
    saved = {Path(line).name: decode(Path(line).read_bytes()) for line in fetched.stdout.splitlines()}
    assert set(saved) == {f"{image_id}-{name}.webp" for name in ("full", "large", "medium", "small")}
    assert saved[f"{image_id}-full.webp"].size == decode(JPEG).size

    photo.write_bytes(PNG)
    [replaced] = documents(stack, "replace", image_id, photo)
    assert (replaced["image_id"], replaced["size"], replaced["status"]) == (image_id, len(PNG), "ready")
    assert documents(stack, "wait", image_id) == [replaced]

    assert run(stack, "delete", image_id).returncode == 0
    assert documents(stack, "list", "--owner", owner) == []


def test_client_shows_the_gateways_error(stack: Stack, tmp_path: Path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("no picture")

    done = run(stack, "upload", text)

    assert (done.returncode, done.stdout) == (1, "")
    assert "Unsupported image format (415)" in done.stderr
    assert "Traceback" not in done.stderr

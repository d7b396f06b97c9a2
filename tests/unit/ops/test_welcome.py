"""What `imagepipe up` prints once the stack is ready."""

import io
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from deploy.local.reporting import Reporter
from deploy.local.state import Root, State
from gateway.http.schemas import EXAMPLE
from ops.stack.welcome import addresses, sizes, welcome

URL = "http://127.0.0.1:8000"


def printed(content: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(content)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_table_shows_what_each_size_saves() -> None:
    def picture(name: str, width: int, height: int, size: int) -> dict[str, Any]:
        return {"name": name, "width": width, "height": height, "size": size}

    document = {
        "original": picture("", 1600, 1067, 412_345),
        "variants": [picture("full", 1600, 1067, 206_172), picture("small", 320, 213, 8_000)],
    }
    header, original, full, small = printed(sizes(document))
    assert header.split() == ["size", "pixels", "bytes", "saved"]
    assert original.split() == ["original", "1600", "×", "1067", "412,345"]
    assert full.split() == ["full", "1600", "×", "1067", "206,172", "50%"]
    assert small.split() == ["small", "320", "×", "213", "8,000", "98%"]


def test_addresses_fit_80_columns_and_are_relative_to_this_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Root(Path.cwd() / ".imagepipe")
    lines = addresses(root, State(gateway_url=URL), EXAMPLE)
    assert dict(lines) == {
        "API": f"{URL}/docs",
        "Photo": f"{URL}/images/{EXAMPLE['image_id']}",
        "Settings": ".imagepipe/env   (set -a; . .imagepipe/env)",
        "Logs": ".imagepipe/logs",
    }
    assert all(len(text) + 14 <= 80 for _, text in lines)
    elsewhere = Root(Path("/elsewhere"))
    assert dict(addresses(elsewhere, State(), None))["Logs"] == "/elsewhere/logs"


def test_failed_sample_is_a_warning_and_the_addresses_follow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "error: connection refused")
    monkeypatch.setattr("ops.stack.welcome.subprocess.run", lambda *_args, **_options: failed)
    console = Console(file=io.StringIO(), width=80)
    welcome(Reporter(console), Root(tmp_path), State(gateway_url=URL), sample=True, stop="Ctrl-C")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "error: connection refused" in text
    assert "exit code 1" in text
    assert f"API         {URL}/docs" in text
    assert text.endswith(f"Stop        Ctrl-C\n  Open        {URL}/\n")

"""The log files of a local stack's parts."""

import asyncio
import io
from pathlib import Path

import pytest
from rich.console import Console

from deploy.local.supervision.logs import ALARMING, ConsoleSink, LogFile, pump, tail


async def test_pump_splits_lines_and_bounds_their_length() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"one\r\ntw" + b"o\n" + b"x" * 200_000 + b"\nlast")
    stream.feed_eof()
    lines: list[str] = []
    await pump(stream, lines.append)
    assert (lines[0], lines[1], lines[-1]) == ("one", "two", "last")
    assert max(map(len, lines)) <= 128 * 1024
    assert sum(map(len, lines)) == 200_010


def test_log_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.local.supervision.logs.LIMIT", 1000)
    log = LogFile(tmp_path / "part.log")
    for number in range(500):
        log.write(f"line {number} with 100% of it")
    log.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3000
    assert tail(tmp_path / "part.log", 1) == ["line 499 with 100% of it"]
    assert tail(tmp_path / "none.log", 5) == []


@pytest.mark.parametrize(
    ("line", "shown"),
    [("12:00:01 INFO  started", False), ("12:00:01 WARN  slow", True), ("java.io.IOException: no", True)],
)
def test_quiet_parts_show_warnings_and_errors(line: str, shown: bool) -> None:
    assert bool(ALARMING.search(line)) is shown


def test_hidden_sink_shows_nothing_until_it_is_revealed() -> None:
    console = Console(file=io.StringIO(), width=80)
    sink = ConsoleSink(console, hidden=True)
    sink.show("kafka", "ERROR early", quiet=True)
    sink.reveal()
    sink.show("kafka", "ERROR late", quiet=True)
    sink.show("kafka", "INFO late", quiet=True)
    assert console.file.getvalue() == "kafka       │ ERROR late\n"  # type: ignore[attr-defined]

"""The line that shows what is left to download."""

import io

import pytest

from deploy.local import downloads as module
from deploy.local.downloads import Downloads, finished_step
from tests.support.clock import Clock
from tests.support.waiting import wait_for


class Terminal(io.StringIO):
    """A terminal of 80 columns."""

    def isatty(self) -> bool:
        return True


def test_line_shows_what_is_left_of_all_items_together() -> None:
    clock = Clock(0.0)
    downloads = Downloads(io.StringIO(), clock)
    downloads.start("Kafka", 45_000_000)
    downloads.start("Python packages")
    assert downloads.line() == "░" * 20 + "  0 of 45 MB  Kafka, Python packages"
    downloads.expect("Python packages", 55_000_000)
    clock.now += 10
    downloads.receive("Kafka", 25_000_000)
    assert downloads.line() == "█" * 5 + "░" * 15 + "  25 of 100 MB  30 s left  Kafka, Python packages"
    downloads.receive("Kafka", 20_000_000)
    downloads.finish("Kafka")
    downloads.doing("Python packages", "installing Python packages")
    assert downloads.line().endswith("45 of 100 MB  12 s left  installing Python packages")
    assert (downloads.received, downloads.seconds) == (45_000_000, 10)


def test_longest_line_fits_a_terminal_of_80_columns() -> None:
    clock = Clock(0.0)
    downloads = Downloads(io.StringIO(), clock)
    for name in ("Python packages", "Kafka", "Cassandra"):
        downloads.start(name, 100_000_000)
    clock.now += 100
    downloads.receive("Kafka", 1_000_000)
    downloads.doing("Python packages", "installing")
    assert len("  " + downloads.line()) < 80
    assert len(finished_step("Downloaded 239 MB", 9.1)) < 80


def test_terminal_gets_one_line_that_is_removed_at_the_end() -> None:
    terminal = Terminal()
    downloads = Downloads(terminal)
    with downloads.shown():
        downloads.start("Kafka", 45_000_000)
        wait_for(terminal.getvalue, 10, "the line")
    assert "\n" not in terminal.getvalue()
    assert "0 of 45 MB" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_file_gets_whole_lines_without_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLAIN_SECONDS", 0.02)
    output = io.StringIO()
    downloads = Downloads(output)
    with downloads.shown():
        downloads.start("Kafka", 45_000_000)
        wait_for(output.getvalue, 10, "a line")
        downloads.finish("Kafka")
    lines = output.getvalue().splitlines()
    assert lines
    assert set(lines) == {"  " + "░" * 20 + "  0 of 45 MB  Kafka"}

"""`imagepipe up` and `down` while a stack starts, and while its lock is held."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from deploy.local.errors import StackError, disk_errors
from deploy.local.provisioning import SCHEMA_RETRY_LIMIT
from deploy.local.reporting import Reporter
from deploy.local.stack import Options
from deploy.local.state import Root
from deploy.local.supervision.parts import Part
from ops.commands.down import down
from ops.commands.up import up
from ops.stack import background
from ops.stack.foreground import locked
from tests.support.waiting import wait_for

DOWNLOADING = """
import sys, time
from pathlib import Path
from deploy.local import stack as parts
from deploy.local.errors import StackError, disk_errors
from ops.commands import up as stack

def fetch(*_):
    print("downloading", flush=True)
    time.sleep(60)

parts.fetch = fetch
try:
    stack.up(Path(sys.argv[1]), None, sys.argv[2] == "detach", True, False, False)
except StackError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("how", ["stay", "detach"])
@pytest.mark.parametrize("delete_data", [False, True])
def test_down_ends_an_up_that_still_downloads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str, delete_data: bool
) -> None:
    root = Root(tmp_path / "s")
    argv = [sys.executable, "-c", DOWNLOADING, str(root.path), how]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == "downloading\n"
            down(root.path, delete_data)
            _, error = first.communicate(timeout=10)
        finally:
            first.kill()
    assert first.returncode == 1, error
    assert "Interrupted" in error
    assert "The start was ended" in capsys.readouterr().out
    assert not root.is_supervised()
    assert root.path.exists() is not delete_data


@pytest.mark.parametrize("delete_data", [False, True])
def test_down_refuses_if_the_holder_of_the_lock_is_unknown(tmp_path: Path, delete_data: bool) -> None:
    root = Root(tmp_path)
    with locked(root):
        with pytest.raises(StackError, match="try again in a moment"):
            down(root.path, delete_data)
        assert root.is_supervised()
    down(root.path, delete_data)


def test_root_stays_locked_while_the_background_process_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Root(tmp_path / "s")
    children: list[subprocess.Popen[bytes]] = []

    def sleeper(argv: list[str], **options: Any) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-c", "import time; time.sleep(60)"]
        children.append(subprocess.Popen(program, **options))
        return children[0]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(background, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": sleeper}))
    monkeypatch.setattr(background, "follow_until_ready", interrupted)
    console = Console(record=True, width=200)
    try:
        with locked(root) as lock, pytest.raises(KeyboardInterrupt):
            background.start(Options(root, 0, False, {}), lock, Reporter(console))
        said = console.export_text()
        assert "The start goes on in the background" in said
        assert f"imagepipe down --root {root.path}" in said
        assert root.is_supervised()
        down(root.path)
        assert children[0].wait(10) == -signal.SIGTERM
        wait_for(lambda: not root.is_supervised(), 10, "the lock to be free")
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_up_waits_for_longer_than_its_parts_may_take() -> None:
    assert 2 * Part.start_timeout + SCHEMA_RETRY_LIMIT.total_seconds() < background.READY_SECONDS


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_directory_that_cannot_be_written_is_reported(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdir(path: Path, *_args: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(StackError, match=rf"{tmp_path / 's'} cannot be written .*make room.*--root.*IMAGEPIPE_CACHE"):
        up(tmp_path / "s")


def test_other_errors_of_the_system_are_not_blamed_on_the_disk(tmp_path: Path) -> None:
    with pytest.raises(ConnectionRefusedError), disk_errors(tmp_path):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")


def test_ctrl_c_while_the_command_is_imported_prints_one_sentence() -> None:
    script = (
        "import sys, ops.__main__ as entry\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'ops.cli':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "entry.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "✗ Interrupted.\n")

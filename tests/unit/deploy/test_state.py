"""The files in a local stack's directory: state, lock and environment."""

import shlex
import stat
import subprocess

import pytest

from deploy.local.errors import StackError
from deploy.local.state import Root, State


def test_state_is_private_and_loads_as_it_was_saved(root: Root, state: State) -> None:
    root.save(state)
    assert stat.S_IMODE(root.state_file.stat().st_mode) == 0o600
    assert root.load() == state
    assert [path.name for path in root.path.iterdir() if path.name.startswith(".state")] == []


def test_invalid_state_file_reports_what_to_do(root: Root) -> None:
    root.state_file.write_text("{")
    with pytest.raises(StackError, match="down --delete-data"):
        root.load()


def test_lock_is_held_by_one_and_freed_with_its_file(root: Root) -> None:
    assert not root.is_supervised()
    lock = root.try_lock()
    assert lock is not None
    assert root.is_supervised()
    assert root.try_lock() is None
    lock.close()
    assert not root.is_supervised()


def test_delete_keeps_other_files(root: Root) -> None:
    root.save(State())
    (root.path / "mine.txt").write_text("kept")
    root.delete()
    assert [path.name for path in root.path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "value",
    ["plain-1.2:3", "with space", "quo'te", 'dou"ble $HOME', "", '{"a": 1}', "it's $HOME", "it's ${HOME}", "it's `id`",
     "it's $(id)", "'; id; '", "back\\slash's", "back\\\\slash", "new\nline's", "#'no comment", "a=b=c", "~",
     "é\u2028'"],
)  # fmt: skip
def test_env_file_gives_a_shell_and_the_commands_the_same_values(root: Root, value: str) -> None:
    root.write_env({"VALUE": value, "WIDTH": "1"})
    assert root.read_env() == {"VALUE": value, "WIDTH": "1"}
    command = f'set -a; . {shlex.quote(str(root.env_file))}; printf %s "$VALUE"'
    assert subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True).stdout == value

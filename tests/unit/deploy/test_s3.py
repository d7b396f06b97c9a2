"""The local stack's S3 server as a part: its program, its environment and its files."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from deploy.local.engines import s3
from deploy.local.errors import StackError
from deploy.local.state import Root, State
from tests.support.waiting import wait_for


def test_without_an_s3_server_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _name, path=None: None)
    with pytest.raises(StackError, match="S3_ENDPOINT_URL"):
        s3.find_program()


def test_data_of_minio_are_not_taken_over(root: Root, state: State) -> None:
    (root.data / "s3" / ".minio.sys").mkdir(parents=True)
    part = s3.part(root, state, "pics", Path("weed"), {})
    with pytest.raises(StackError, match="down --delete-data"):
        part.prepare()


def test_no_secret_is_in_its_arguments_and_nothing_of_the_users_in_its_environment(root: Root, state: State) -> None:
    given = {"PATH": "/bin", "HOME": "/me", "WEED_JWT_SIGNING_KEY": "", "AWS_ACCESS_KEY_ID": "x", "S3_BUCKET": "y"}
    server = s3.part(root, state, "pics", Path("/bin/weed"), given)
    lifecycle = s3.lifecycle_part(root, state, Path("/bin/weed"), given)
    for part in (server, lifecycle):
        assert set(part.env) <= {"PATH", "HOME", "GOMEMLIMIT"}
        words = " ".join((*part.argv, *part.env.values()))
        assert not any(secret in words for secret in state.secrets.model_dump().values())


def test_its_files_are_for_the_owner_only(root: Root, state: State) -> None:
    program = root.path / "weed"
    program.write_text("#!/bin/sh\n: > data/made\n")
    program.chmod(0o700)
    part = s3.part(root, state, "pics", program, {"PATH": os.environ["PATH"]})
    part.prepare()
    part.prepare()
    subprocess.run(part.argv, env=dict(part.env), check=True, umask=0o022)
    folder = root.data / "s3"
    made = list(folder.rglob("*"))
    assert sorted(path.name for path in made) == [
        "config", "data", "iam.json", "made", "master.toml", "s3.json", "security.toml",
    ]  # fmt: skip
    for path in (folder, *made):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_lifecycle_pass_ends_with_its_part(root: Root, state: State) -> None:
    """The server's shell waits without end for a server that was killed."""
    program = root.path / "weed"
    program.write_text(f'#!/bin/sh\necho $$ > "{root.path}/pid.new"; cat > /dev/null\nmv "{root.path}/pid.new" '
                       f'"{root.path}/pid"; exec sleep 60\n')  # fmt: skip
    program.chmod(0o700)
    (root.data / "s3").mkdir(parents=True)
    part = s3.lifecycle_part(root, state, program, {"PATH": os.environ["PATH"]})
    script = subprocess.Popen(part.argv, env=dict(part.env), start_new_session=True)
    try:
        shell = psutil.Process(wait_for(lambda: _number(root.path / "pid"), 10, "a pass"))
    finally:
        os.kill(script.pid, signal.SIGKILL)
        script.wait(10)
    wait_for(lambda: not shell.is_running() or shell.status() == psutil.STATUS_ZOMBIE, 5, "the pass to end")


def _number(path: Path) -> int | None:
    return int(path.read_text()) if path.exists() else None

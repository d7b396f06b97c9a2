"""Processes of a local stack: which are its own, and that they end with it."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from deploy.local.supervision import process
from tests.support.waiting import wait_for


def test_process_reference_does_not_match_a_reused_pid() -> None:
    me = process.reference(os.getpid())
    assert me is not None
    assert process.find(me) is not None
    assert process.find(me.model_copy(update={"created": me.created - 60})) is None
    assert process.find(None) is None


def test_leftover_processes_are_found_by_stack_and_ended() -> None:
    env = {**os.environ, process.STACK_ID: "test-leftovers"}
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"], env=env)
    try:
        found = process.leftovers("test-leftovers")
        assert [each.pid for each in found] == [child.pid]
        assert process.leftovers("another") == []
        process.end(found, grace=5)
        assert child.wait(5) == -15
    finally:
        child.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_child_dies_with_its_parent(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    script = (
        "import os, subprocess, time\n"
        f"p = subprocess.Popen([*{process.TIED_TO!r}, str(os.getpid()), 'sleep', '30'])\n"
        f"open({str(told)!r}, 'w').write(str(p.pid)); time.sleep(30)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        pid = wait_for(lambda: told.exists() and int(told.read_text() or 0), 10, "a pid")
        grandchild = psutil.Process(pid)
        wait_for(lambda: grandchild.name() == "sleep", 10, "the child to become `sleep`")
    finally:
        parent.kill()
        parent.wait()

    def ended() -> bool:
        try:
            return grandchild.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    assert wait_for(ended, 5, "the child to end with its parent")

"""`make up` as a new user runs it: everything starts, a sample photo is served, and Ctrl-C ends every process."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from deploy.local.services import ENDPOINTS
from deploy.local.state import Phase, Root
from deploy.local.supervision import process
from tests.support.engines.stack import end_leftovers
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
READY_SECONDS = 180.0


@contextmanager
def make_up(root: Root, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`make up` as the leader of a process group, as in a terminal. It is ended in any case."""
    ours = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "ARGS", *ENDPOINTS.values()}
    env = {name: value for name, value in os.environ.items() if name not in ours}
    argv = ["make", "up", f"ARGS=--root {root.path} --gateway-port 0"]
    with output.open("wb") as log:
        made = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        yield made
    finally:
        if made.poll() is None:
            os.killpg(made.pid, signal.SIGKILL)
            made.wait()
        end_leftovers(root)


@pytest.mark.slow
def test_make_up_serves_a_sample_photo_and_ctrl_c_ends_every_process(tmp_path: Path) -> None:
    root, output = Root(tmp_path / "stack"), tmp_path / "output"
    with make_up(root, output) as made:

        def printed() -> str | None:
            assert made.poll() is None, output.read_text()
            said = output.read_text()
            return said if "Open        http" in said else None

        said = wait_for(printed, READY_SECONDS, "make up has printed where everything is")
        for variant in ("full", "large", "medium", "small"):
            assert re.search(rf"^  {variant} +\d+ × \d+ +[\d,]+ +\d+%$", said, re.MULTILINE), said
        assert re.search(r"^  original +\d+ × \d+ +[\d,]+ *$", said, re.MULTILINE), said
        state = root.load()
        assert state is not None
        assert state.gateway_url is not None
        assert f"API         {state.gateway_url}/docs" in said
        assert "Open        http" in said.rstrip().splitlines()[-1], "the address of the page is the last line"
        [image] = httpx.get(f"{state.gateway_url}/images", trust_env=False).json()
        assert image["status"] == "ready"
        assert image["image_id"] in said

        os.killpg(made.pid, signal.SIGINT)
        made.wait(60)
        assert process.leftovers(state.stack_id) == []
        assert json.loads(root.state_file.read_text())["phase"] == "stopped"
        assert "Traceback" not in output.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("seen", ["", "S3 (SeaweedFS) is ready"])
def test_ctrl_c_while_the_stack_starts_ends_every_process_with_one_sentence(tmp_path: Path, seen: str) -> None:
    root, output = Root(tmp_path / "stack"), tmp_path / "output"
    with make_up(root, output) as made:
        wait_for(lambda: root.state_file.exists() and seen in output.read_text(), READY_SECONDS, "the start")
        os.killpg(made.pid, signal.SIGINT)
        assert made.wait(60) != 0
    said = output.read_text()
    assert "✗ Interrupted while starting." in said
    assert "Traceback" not in said
    state = root.load()
    assert state is not None
    assert process.leftovers(state.stack_id) == []
    assert (state.phase, state.supervisor) == (Phase.STOPPED, None)

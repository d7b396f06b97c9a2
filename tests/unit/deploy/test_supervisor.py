"""The supervisor of the local stack keeps working if its own files cannot be written."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.errors import Interrupted
from deploy.local.state import PartPhase, Root, State
from deploy.local.supervision import supervisor as supervisor_module
from deploy.local.supervision.parts import Part
from deploy.local.supervision.supervisor import Supervisor
from tests.support.waiting import wait_for_async

ROOT = Path(__file__).parents[3]


class FullDisk(Root):
    """A root whose disk can be full."""

    full = False

    def save(self, state: State) -> None:
        if FullDisk.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().save(state)


async def _nothing() -> None:
    return None


async def test_a_part_that_ends_while_the_disk_is_full_is_started_again(tmp_path: Path) -> None:
    def show(name: str, line: str, quiet: bool) -> None:
        if FullDisk.full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def prepare() -> None:
        # As an engine whose data directory has no room, for one start.
        starts.append(len(starts))
        if len(starts) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    starts: list[int] = []
    root = FullDisk(tmp_path / "root")
    root.create()
    supervisor = Supervisor(root, State(), show)
    argv = (sys.executable, "-c", "import time; time.sleep(60)")
    part = Part("engine", "Engine", argv, dict(os.environ), _nothing, "", prepare=prepare)
    FullDisk.full = False
    try:
        await supervisor.start(part)
        first = supervisor.state.parts["engine"].process
        assert first is not None
        FullDisk.full = True
        os.kill(first.pid, signal.SIGKILL)
        engine = supervisor.state.parts["engine"]
        await wait_for_async(lambda: engine.phase is PartPhase.READY and len(starts) >= 3, 20, "the third start")
        second = supervisor.state.parts["engine"].process
        assert second is not None
        assert second.pid != first.pid
        assert supervisor.state.parts["engine"].restarts == 2
    finally:
        FullDisk.full = False
        await supervisor.stop_parts(["engine"])
    assert root.load() is not None


@pytest.mark.parametrize(("ran_well", "pauses"), [(60.0, ["0.1", "0.2", "0.2"]), (0.0, ["0.1", "0.1", "0.1"])])
async def test_pauses_grow_and_start_over_after_a_good_run(
    ran_well: float, pauses: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_RESTART_PAUSE", 0.1)
    monkeypatch.setattr(supervisor_module, "LONGEST_RESTART_PAUSE", 0.2)
    monkeypatch.setattr(supervisor_module, "RAN_WELL", ran_well)
    monkeypatch.setattr(supervisor_module, "FATAL_STARTS", 100)
    lines: list[str] = []
    root = Root(tmp_path / "root")
    root.create()
    supervisor = Supervisor(root, State(), lambda _name, line, _quiet: lines.append(line))

    async def never() -> None:
        raise OSError("not ready")

    starting = asyncio.create_task(
        supervisor.start(Part("engine", "Engine", (sys.executable, "-c", ""), dict(os.environ), never, ""))
    )
    async with asyncio.timeout(20):
        while len(found := [line for line in lines if "started again" in line]) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    supervisor.stop.set()
    with pytest.raises(Interrupted):
        await starting
    await supervisor.stop_parts(["engine"])
    assert [line.rpartition(" in ")[2] for line in found[:3]] == [f"{pause} s" for pause in pauses]


STARTS_AND_STOPS = """
import asyncio, gc, os, sys
from pathlib import Path
from deploy.local.state import Root, State
from deploy.local.supervision.parts import Part
from deploy.local.supervision.supervisor import Supervisor

HOLDS_ITS_OUTPUT = "import subprocess, time; subprocess.Popen(['sleep', '6'], start_new_session=True); time.sleep(60)"

async def nothing():
    pass

async def main():
    root = Root(Path(sys.argv[1]))
    root.create()
    supervisor = Supervisor(root, State(), lambda *_: None)
    argv = (sys.executable, "-c", HOLDS_ITS_OUTPUT)
    await supervisor.start(Part("engine", "Engine", argv, dict(os.environ), nothing, "", stop_grace=1))
    await asyncio.sleep(1)
    await supervisor.stop_parts(["engine"])

asyncio.run(main())
gc.collect()
"""


def test_a_process_that_holds_the_output_of_a_part_leaves_no_traceback(tmp_path: Path) -> None:
    """asyncio would print one when its loop has ended, below the last line of `make up`."""
    argv = [sys.executable, "-c", STARTS_AND_STOPS, str(tmp_path / "root")]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")

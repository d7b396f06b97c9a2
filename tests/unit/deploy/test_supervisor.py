"""The supervisor of the local stack goes on where its own files cannot be written."""

import asyncio
import errno
import os
import signal
import sys
from pathlib import Path

from deploy.local.state import PartPhase, Root, State
from deploy.local.supervision.parts import Part
from deploy.local.supervision.supervisor import Supervisor


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
        async with asyncio.timeout(20):
            while supervisor.state.parts["engine"].phase is not PartPhase.READY or len(starts) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        second = supervisor.state.parts["engine"].process
        assert second is not None
        assert second.pid != first.pid
        assert supervisor.state.parts["engine"].restarts == 2
    finally:
        FullDisk.full = False
        await supervisor.stop_parts(["engine"])
    assert root.load() is not None

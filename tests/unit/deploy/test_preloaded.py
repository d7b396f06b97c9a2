"""A service imports its modules at once, and runs when the supervisor lets it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.state import PartPhase, Root, State
from deploy.local.supervision.parts import Part
from deploy.local.supervision.supervisor import Supervisor
from tests.support.waiting import wait_for_async

ROOT = Path(__file__).parents[3]
ARGV = (sys.executable, "-m", "deploy.local.supervision.preloaded", "thing")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a service that writes down when it was imported and when it ran."""
    package = tmp_path / "thing"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "service.py").write_text("print('imported', flush=True)\n")
    (package / "__main__.py").write_text("import sys, time\nprint('runs', __name__, sys.argv[1:], flush=True)\n")
    return {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}


def test_service_ends_without_running_if_the_supervisor_has_ended(environment: dict[str, str]) -> None:
    done = subprocess.run(ARGV, env=environment, input="", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "imported\n")
    assert done.stderr == "The supervisor has ended.\n"


def test_service_runs_as_its_main_module(environment: dict[str, str]) -> None:
    done = subprocess.run(ARGV, env=environment, input="\n", capture_output=True, text=True, check=True)
    assert done.stdout == "imported\nruns __main__ []\n"


async def test_part_is_probed_and_runs_only_after_its_release(tmp_path: Path, environment: dict[str, str]) -> None:
    released, lines, probes = asyncio.Event(), list[str](), list[str]()
    root = Root(tmp_path / "stack")
    root.create()
    (tmp_path / "thing" / "__main__.py").write_text("import time\nprint('runs', flush=True)\ntime.sleep(60)\n")

    async def release() -> None:
        await released.wait()

    async def probe() -> None:
        probes.append("probe")
        assert "runs" in lines

    supervisor = Supervisor(root, State(), lambda _name, line, _quiet: lines.append(line))
    part = Part("thing", "Thing", ARGV, environment, probe, "", release=release)
    starting = asyncio.create_task(supervisor.start(part))
    try:
        await wait_for_async(lambda: lines == ["imported"], 20, "the import")
        assert (probes, supervisor.state.parts["thing"].phase) == ([], PartPhase.STARTING)
        released.set()
        await asyncio.wait_for(starting, 20)
        assert lines == ["imported", "runs"]
    finally:
        await supervisor.stop_parts(["thing"])

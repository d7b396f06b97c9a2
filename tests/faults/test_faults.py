"""The fault run: clients record their answers while a nemesis injects faults; then everything is checked.

SEED and DURATION (seconds) in the environment choose the run: `make test-faults SEED=7 DURATION=600`. With
FAULT_TABLE=1, as the targets of the Makefile set it, the run adds its row to docs/fault-runs.md.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from shared.errors import ImagepipeError
from tests.faults.checker import UNFINISHED, Violation, check, served
from tests.faults.history import Operation, Result
from tests.faults.nemesis import Nemesis
from tests.faults.observe import damage, final_state, image_ids, settle
from tests.faults.report import PAGE, Run, commit, with_row
from tests.faults.workload import Pictures, run_clients
from tests.support.engines.proxied import ProxiedStack
from tests.support.waiting import NotInTimeError

SEED = int(os.environ.get("SEED", "1"))
DURATION = float(os.environ.get("DURATION", "60"))
DAMAGED = "difference that verify reports"
NOT_SERVED = "no upload served while one node was unavailable"
CHECK_TIMEOUT = timedelta(minutes=1)
"""How long the check waits for the store. A service that gives up tries again later; the check is made only once."""
IDLE = "workload that hardly ran"
STUCK = "fault that could not be ended, such as a part that is not ready again in time"
UNCHECKED = "check that ended with an error"


@pytest.mark.timeout(2 * DURATION + 900)
async def test_nothing_acknowledged_is_lost(
    stack: ProxiedStack, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = await faulted_run(stack)
    with capsys.disabled():
        print(f"\n{run}")
        if run.violations:
            print(f"The history and the logs are in {keep_evidence(run, stack, tmp_path)}")
    if os.environ.get("FAULT_TABLE"):
        PAGE.write_text(with_row(PAGE.read_text(), run.row()))
    assert run.violations == []
    assert run.faults


def keep_evidence(run: Run, stack: ProxiedStack, directory: Path) -> Path:
    """Keep what explains a violation: every operation, every fault, and the logs of all parts."""
    lines = [*map(repr, sorted(run.history, key=lambda operation: operation.started)), *map(repr, run.faults)]
    (directory / "history.txt").write_text("\n".join(lines))
    shutil.copytree(stack.root.logs, directory / "logs")
    return directory


async def faulted_run(stack: ProxiedStack) -> Run:
    pictures, tested = Pictures(), commit()
    nemesis = Nemesis(stack, pictures, SEED, DURATION)
    cluster = stack.state().cluster
    # Most clients wait for an engine most of the time. Six engines leave less CPU time for the others.
    pause = 1.5 if cluster else 0.8
    before = await image_ids(stack.settings)
    until = time.monotonic() + DURATION
    injecting = asyncio.gather(
        asyncio.to_thread(nemesis.run, until),
        asyncio.to_thread(nemesis.disturb_network, until),
        asyncio.to_thread(nemesis.disturb_processes, until),
        return_exceptions=True,
    )
    history = await run_clients(stack.gateways, SEED, DURATION, pictures, pause=pause)
    stuck = [Violation(STUCK, repr(error)) for error in await injecting if error is not None]
    settled = None
    try:
        settled = await settle(stack.base_url, stack.settings, sorted({operation.owner for operation in history}))
        violations = await violated(stack, history, nemesis, before)
    except NotInTimeError as error:
        violations = [Violation(UNFINISHED, str(error))]
    except (httpx.HTTPError, ImagepipeError) as error:
        violations = [Violation(UNCHECKED, repr(error))]
    return Run(SEED, tested, cluster, DURATION, nemesis.faults, history, [*stuck, *violations], settled)


async def violated(
    stack: ProxiedStack, history: Sequence[Operation], nemesis: Nemesis, before: Collection[str]
) -> list[Violation]:
    owners = sorted({operation.owner for operation in history})
    settings = stack.settings.model_copy(update={"s3_timeout": CHECK_TIMEOUT})
    state = (await final_state(stack.base_url, settings, owners)).without(before)
    acknowledged = sum(operation.result is Result.OK for operation in history)
    return [
        *check(history, state),
        *(Violation(DAMAGED, found) for found in await damage(settings, before)),
        *(
            Violation(NOT_SERVED, str(fault))
            for fault in nemesis.absences
            if not served(history, fault.began, fault.ended)
        ),
        *([Violation(IDLE, f"{acknowledged} acknowledged")] if acknowledged <= DURATION / 4 else []),
    ]

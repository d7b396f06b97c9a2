"""The fault run: clients record their answers while a nemesis kills and stops parts; then everything is checked.

SEED and DURATION (seconds) in the environment choose the run: `make test-faults SEED=7 DURATION=600`.
"""

import asyncio
import os
import time

import pytest

from tests.faults.checker import check, served
from tests.faults.history import Result
from tests.faults.nemesis import Nemesis
from tests.faults.observe import damage, final_state, image_ids, settle
from tests.faults.report import Run
from tests.faults.workload import run_clients
from tests.support.engines.stack import Stack

SEED = int(os.environ.get("SEED", "1"))
DURATION = float(os.environ.get("DURATION", "60"))


@pytest.mark.timeout(DURATION + 900)
async def test_nothing_acknowledged_is_lost(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    nemesis = Nemesis(stack, SEED, DURATION)
    # Six engines leave less CPU time for requests.
    pause = 0.5 if stack.state().cluster else 0.15
    before = await image_ids(stack.settings)
    until = time.monotonic() + DURATION
    hurting = asyncio.to_thread(nemesis.run, until)
    history, _ = await asyncio.gather(run_clients(stack.gateways, SEED, DURATION, pause=pause), hurting)
    owners = sorted({operation.owner for operation in history})
    seconds = await settle(stack.base_url, stack.settings, owners)
    state = (await final_state(stack.base_url, stack.settings, owners)).without(before)
    violations = check(history, state)
    with capsys.disabled():
        print(f"\n{Run(SEED, DURATION, nemesis.faults, history, violations, seconds)}")
    assert violations == []
    assert await damage(stack.settings, before) == []
    assert [str(fault) for fault in nemesis.absences if not served(history, fault.began, fault.ended)] == []
    assert sum(operation.result is Result.OK for operation in history) > DURATION / 4, "the workload hardly ran"
    assert nemesis.faults

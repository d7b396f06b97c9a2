"""Races of two requests on the running stack: no rule is broken, also while parts are stopped or killed.

RACES (of each kind), SEED and KINDS in the environment choose the run: `make races RACES=1000 SEED=7 KINDS="PUT set"`.
KINDS has names of kinds, or their beginnings, separated by semicolons.
"""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from tests.races.arena import Arena, NewRace
from tests.races.cleared_is_cleared import ClearAgainstReads, ClearAgainstReplace
from tests.races.delete_is_final import ReplaceAgainstDelete
from tests.races.front import Front
from tests.races.one_update_of_a_version import UpdateAgainstUpdate
from tests.races.report import broken, report
from tests.races.sets_exclude import SetAgainstSet
from tests.support.engines.stack import Stack
from tests.support.processes.gateway import own_gateway

SEED = int(os.environ.get("SEED", "1"))
RACES = int(os.environ.get("RACES", "48"))
"""48 are four batches: nothing stopped, the processor stopped, the indexer stopped, a gateway killed."""
SECONDS_EACH = 5.0
"""A batch of twelve takes 15 s on an idle machine."""
KINDS = (ReplaceAgainstDelete, ClearAgainstReads, ClearAgainstReplace, SetAgainstSet, UpdateAgainstUpdate)
CHOSEN = tuple(os.environ.get("KINDS", "").split(";"))
LEASE = timedelta(seconds=5)
"""How long the killed gateway holds an Idempotency-Key and the set of an owner. It is shorter than the watch."""


@pytest.mark.timeout(RACES * SECONDS_EACH + 600)
async def test_rules_hold_after_every_race(stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds: list[NewRace] = [kind for kind in KINDS if kind.name.startswith(CHOSEN)]
    with own_gateway(stack.settings, tmp_path / "gateway.log", idempotency_lease=LEASE, set_lease=LEASE) as mortal:
        await mortal.wait_ready_async()
        async with Front(stack.base_url) as steady, Front(mortal.base_url) as front:
            findings = await Arena(stack, mortal, (steady, front), SEED).run(kinds, RACES)
    with capsys.disabled():
        print(f"\n{report(findings)}")
    assert broken(findings) == []
    for kind in KINDS:
        answers = [finding.answers for finding in findings if finding.name == kind.name]
        if answers and kind.refusal:
            refused = any(answer.status == kind.refusal for pair in answers for answer in pair)
            assert refused, f"{kind.name}: nothing was refused"
        elif answers:
            assert any(a.is_success and b.is_success for a, b in answers), f"{kind.name}: no race of two acknowledged"

"""A stack in the foreground: a signal at any moment ends it in order."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from deploy.local import stack
from deploy.local.reporting import Reporter
from deploy.local.state import Root, State
from deploy.local.supervision.supervisor import STOP_SIGNALS, Supervisor
from ops.stack import foreground


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_before_the_event_loop_runs_ends_the_stack_in_order(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []

    def prepare(_options: Any, _reporter: Any) -> State:
        os.kill(os.getpid(), number)
        return State()

    async def run(options: stack.Options, state: State, *rest: Any) -> None:
        supervisor = Supervisor(options.root, state, lambda _name, _line, _quiet: None)
        supervisor.handle_signals(rest[-1])
        async with asyncio.timeout(5):
            await supervisor.stop.wait()
        ended.append(True)

    monkeypatch.setattr(foreground, "fetch", lambda *_: {})
    monkeypatch.setattr(stack, "prepare", prepare)
    monkeypatch.setattr(stack, "run", run)
    options = stack.Options(Root(tmp_path), None, with_services=False, given={})
    usual = signal.getsignal(number)
    with (tmp_path / "lock").open("w") as lock:
        foreground.serve(options, lock, Reporter(Console()), lambda *_: None, lambda _state: None)
    assert ended == [True]
    assert signal.getsignal(number) is usual

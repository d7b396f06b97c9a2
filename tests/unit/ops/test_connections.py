"""A command at Ctrl-C: it ends also while it waits, and a second Ctrl-C ends one that does not stop."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from ops.connections import INTERRUPTED, run
from ops.terminal.output import Output

ROOT = Path(__file__).parents[3]
SECONDS = 20.0


@pytest.fixture(autouse=True)
def own_handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Python's own handler, also where the shell that runs the tests has made them ignore SIGINT."""
    monkeypatch.setattr(os, "setpriority", lambda *_: None)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


def interrupt_soon() -> None:
    """Have SIGINT arrive in another thread, so that it does not wake the main thread from a system call.

    It is the same for the main thread as a signal that arrives just before the call.
    """

    def interrupt() -> None:
        time.sleep(0.1)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    threading.Thread(target=interrupt).start()


def test_ctrl_c_wakes_a_command_that_waits(capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        interrupt_soon()
        await asyncio.sleep(SECONDS)

    began = time.monotonic()
    with pytest.raises(typer.Exit) as ended:
        run(work())
    assert time.monotonic() - began < SECONDS / 2
    assert ended.value.exit_code == INTERRUPTED
    assert capsys.readouterr().err.startswith("Interrupted.")


def test_a_command_that_ignores_sigint_goes_on() -> None:
    async def work() -> str:
        interrupt_soon()
        await asyncio.sleep(0.3)
        return "finished"

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert run(work()) == "finished"


def test_one_ctrl_c_ends_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    def confirm(*_: object, **__: object) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the question goes on")

    async def work() -> bool:
        return Output().confirmed([], dry_run=False, yes=False)

    monkeypatch.setattr(typer, "confirm", confirm)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    with pytest.raises(typer.Exit) as ended:
        run(work())
    assert ended.value.exit_code == INTERRUPTED


STUBBORN = """
import asyncio
import signal
from ops.connections import run

async def work():
    print("started", flush=True)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("not yet", flush=True)

signal.signal(signal.SIGINT, signal.default_int_handler)
run(work())
"""


def test_the_second_ctrl_c_ends_a_command_that_does_not_stop() -> None:
    argv = [sys.executable, "-c", STUBBORN]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as command:
        try:
            assert command.stdout is not None
            assert command.stdout.readline() == "started\n"
            command.send_signal(signal.SIGINT)
            assert command.stdout.readline() == "not yet\n"
            command.send_signal(signal.SIGINT)
            assert command.wait(SECONDS) == -signal.SIGINT
        finally:
            command.kill()

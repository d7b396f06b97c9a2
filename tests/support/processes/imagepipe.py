"""Runs `imagepipe` as users do: as a process, with the settings of the deployment in its environment.

Each process that ends by itself is a fork of one that has imported all commands, because a hundred imports took two
minutes of a run.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ops.cli import COMMANDS, main
from shared.settings import Settings
from tests.support.processes.environment import environment

Constants = Mapping[tuple[str, str], Any]
"""From module and name to a value."""

SWITCHED_AT_ONCE: Constants = {
    ("ops.index.switch", "NOTICED_SECONDS"): 0.0,
    ("ops.index.switch", "SWITCH_SECONDS"): 0.0,
}
"""A switch waits 14 s in all for the services to follow it. A test without traffic during its switch need not wait."""

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__, *(f"ops.commands.{name}" for name in COMMANDS)])


def imagepipe(
    settings: Settings, *arguments: str, code: int = 0, timeout: float = 120, constants: Constants | None = None
) -> str:
    """Stdout of a command that is expected to end with this exit code; `constants` are replaced in its process."""
    done = run_imagepipe(environment(settings), *arguments, timeout=timeout, constants=constants)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_imagepipe(
    variables: Mapping[str, str], *arguments: str, timeout: float = 120, constants: Constants | None = None
) -> subprocess.CompletedProcess[str]:
    """A command with these variables in its environment, run to its end. It is killed after `timeout` seconds."""
    with TemporaryDirectory() as directory:
        streams = Path(directory, "stdout"), Path(directory, "stderr")
        process = PROCESSES.Process(target=_command, args=(arguments, variables, streams, constants or {}))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
        printed, remarks = (stream.read_text() if stream.exists() else "" for stream in streams)
    assert process.exitcode is not None
    return subprocess.CompletedProcess(["imagepipe", *arguments], process.exitcode, printed, remarks)


def _command(
    arguments: Sequence[str], variables: Mapping[str, str], streams: Sequence[Path], constants: Constants
) -> None:
    """In the command's process."""
    for (module, name), value in constants.items():
        setattr(import_module(module), name, value)
    os.environ.clear()
    os.environ.update(variables)
    for number, path in enumerate((Path(os.devnull), *streams)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["imagepipe", *arguments]
    main()


def imagepipe_json(
    settings: Settings, *arguments: str, code: int = 0, timeout: float = 120, constants: Constants | None = None
) -> Any:
    """The JSON document that a command prints."""
    return json.loads(imagepipe(settings, *arguments, "--json", code=code, timeout=timeout, constants=constants))


# A shell that runs the tests in the background lets them ignore SIGINT, and their children inherit that: a listener
# did not end at Ctrl-C, and the test waited for it.
_TAKES_SIGINT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from ops.__main__ import main
main()
"""


@contextmanager
def running_imagepipe(variables: Mapping[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on until it is interrupted. It is killed at the end of the block if it still runs."""
    argv = [sys.executable, "-c", _TAKES_SIGINT, *arguments]
    with subprocess.Popen(argv, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        try:
            yield command
        finally:
            command.kill()

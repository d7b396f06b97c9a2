"""Runs `imagepipe` as users do: as a process, with the settings of the deployment in its environment.

Each process is a fork of one that has imported all commands, because a hundred imports took two minutes of a run.
"""

import json
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ops.cli import COMMANDS, main
from shared.settings import Settings
from tests.support.processes.environment import environment

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__, *(f"ops.commands.{name}" for name in COMMANDS)])


def imagepipe(settings: Settings, *arguments: str, code: int = 0, timeout: float = 120) -> str:
    """Stdout of a command that is expected to end with this exit code."""
    with TemporaryDirectory() as directory:
        streams = Path(directory, "stdout"), Path(directory, "stderr")
        process = PROCESSES.Process(target=_command, args=(arguments, environment(settings), streams))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
        printed, remarks = (stream.read_text() if stream.exists() else "" for stream in streams)
    assert process.exitcode == code, f"exit code {process.exitcode}\n{printed}\n{remarks}"
    return printed


def _command(arguments: Sequence[str], variables: Mapping[str, str], streams: Sequence[Path]) -> None:
    """In the command's process."""
    os.environ.clear()
    os.environ.update(variables)
    for number, path in enumerate((Path(os.devnull), *streams)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["imagepipe", *arguments]
    main()


def imagepipe_json(settings: Settings, *arguments: str, code: int = 0, timeout: float = 120) -> Any:
    """The JSON document that a command prints."""
    return json.loads(imagepipe(settings, *arguments, "--json", code=code, timeout=timeout))

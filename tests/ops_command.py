"""Runs `imagepipe` as users do: as a process, with the deployment in its environment."""

import json
import os
import subprocess
import sys
from typing import Any

from pydantic import SecretStr

from shared.settings import Settings


def environment(settings: Settings) -> dict[str, str]:
    """These settings as environment variables, without those that are at their default."""
    values: dict[str, str] = {}
    for name, plain in settings.model_dump(mode="json", exclude_defaults=True).items():
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            values[name.upper()] = value.get_secret_value()
        elif isinstance(value, tuple):
            values[name.upper()] = ",".join(value)
        elif value is not None:
            values[name.upper()] = plain if isinstance(plain, str) else json.dumps(plain)
    return values


def imagepipe(settings: Settings, *arguments: str, code: int = 0, timeout: float = 120) -> str:
    """Stdout of a command that is expected to end with this exit code."""
    known = {name.upper() for name in Settings.model_fields}
    inherited = {name: value for name, value in os.environ.items() if name not in known}
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments], env=inherited | environment(settings), capture_output=True,
        text=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def imagepipe_json(settings: Settings, *arguments: str, code: int = 0, timeout: float = 120) -> Any:
    """The JSON document that a command prints."""
    return json.loads(imagepipe(settings, *arguments, "--json", code=code, timeout=timeout))

"""The settings of a deployment as the environment of a child process."""

import json
import os

from pydantic import SecretStr

from shared.settings import Settings


def environment(settings: Settings) -> dict[str, str]:
    """This process's environment, in which these settings replace all settings that it names."""
    known = {name.upper() for name in Settings.model_fields}
    inherited = {name: value for name, value in os.environ.items() if name not in known}
    return inherited | _variables(settings)


def _variables(settings: Settings) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, plain in settings.model_dump(mode="json").items():
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            values[name.upper()] = value.get_secret_value()
        elif isinstance(value, tuple):
            values[name.upper()] = ",".join(plain)
        elif value is not None:
            values[name.upper()] = plain if isinstance(plain, str) else json.dumps(plain)
    return values

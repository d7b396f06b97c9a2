"""Reads the settings of the deployment: from the environment, or from the local stack under `--root`."""

from collections.abc import Mapping
from pathlib import Path

from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from deploy.local.errors import StackError
from deploy.local.state import Root
from shared.errors import ConfigurationError
from shared.settings import Settings, read_settings


def load_settings(root: Path | None) -> Settings:
    """Settings of the deployment. Raises ConfigurationError if there is no stack, or if a value is invalid."""
    if root is None:
        return read_settings()
    stack = Root.at(root)
    if not stack.env_file.is_file():
        raise ConfigurationError(f"{root} holds no local stack: run `imagepipe up --root {root}` first")
    try:
        values = stack.read_env()
    except StackError as error:
        raise ConfigurationError(str(error)) from error
    return read_settings(lambda: _stack_settings(values))


def _stack_settings(values: Mapping[str, str]) -> Settings:
    """Settings of a local stack. Its file overrides the environment, as it does for the services of the stack."""

    class StackSettings(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            file = EnvSettingsSource(settings_cls)
            file.env_vars = {name.lower(): value for name, value in values.items() if value}
            return init_settings, file, env_settings, file_secret_settings

    return StackSettings()

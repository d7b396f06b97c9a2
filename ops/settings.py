"""Settings of the deployment that a command works on: the one in the environment, or the local stack under `--root`."""

from pathlib import Path

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from shared.errors import ConfigurationError
from shared.settings import Settings, read_settings


class _StackSettings(Settings):
    """Settings of a local stack: its file overrides the environment, as it does for the services of the stack."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, dotenv_settings, env_settings, file_secret_settings


def load_settings(root: Path | None) -> Settings:
    """Settings of the deployment. Raises ConfigurationError where there is no stack, or a value is wrong."""
    if root is None:
        return read_settings()
    file = root / "env"
    if not file.is_file():
        raise ConfigurationError(f"{root} holds no local stack: run `imagepipe up --root {root}` first")
    return read_settings(lambda: _StackSettings(_env_file=file))
